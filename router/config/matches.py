"""The configuration of a route's conditions, and of the sizes that they may name."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.section import Name, Section, Text, doc
from router.config.units import Percent
from router.core.matching import StringKind

KINDS: tuple[StringKind, ...] = (
    "exact",
    "prefix",
    "suffix",
    "contains",
    "regex",
    "range",
    "present",
)

Tokens = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
_Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class NumberRange(Section, frozen=True, kw_only=True):
    """Whole numbers from start up to but not including end, as in Envoy."""

    start: Annotated[_Whole, doc("The first that matches.")]
    end: Annotated[_Whole, doc("The first that does not.")]


class StringCondition(Section, frozen=True, kw_only=True):
    """A condition on a text: exactly one of the fields, and invert. A plain text means exact."""

    shorthand: ClassVar[str | None] = "exact"

    exact: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    prefix: Text | None = None
    suffix: Text | None = None
    contains: Text | None = None
    regex: Annotated[Text | None, doc("Must match the whole text; Python's syntax.")] = None
    range: Annotated[NumberRange | None, doc("Of a number; for headers and the query.")] = None
    present: Annotated[bool | None, doc("true: is there at all; false: is absent.")] = None
    invert: Annotated[bool, doc("Negate the condition.")] = False
    ignore_case: Annotated[
        bool, doc("Compare in lower case; a regex says (?i) itself instead.")
    ] = False


class TokenLimits(Section, frozen=True, kw_only=True):
    """A range of tokens, both ends included."""

    min: Annotated[Tokens, doc("At least so many.")] = 0
    max: Annotated[Tokens | None, doc("At most so many; without it, any number.")] = None


class SizeSpec(Section, frozen=True, kw_only=True):
    """A class of requests. A request is of the first class whose ranges it fits."""

    prompt_tokens: Annotated[
        TokenLimits,
        doc("Estimated: the body's bytes by token_estimates.bytes_per_token, rounded up."),
    ] = TokenLimits()
    max_tokens: Annotated[
        TokenLimits,
        doc(
            "max_tokens (or max_completion_tokens, max_output_tokens) of the body. Without it a "
            "request may go on for as long as the model can: it fits only where there is no max."
        ),
    ] = TokenLimits()


class AdapterCondition(Section, frozen=True, kw_only=True):
    """On the LoRA adapter that the request names as its model. A plain text means its name."""

    shorthand: ClassVar[str | None] = "name"

    name: Annotated[Text | None, doc("The adapter; * and ? are wildcards.")] = None
    present: Annotated[
        bool | None, doc("true: any adapter that a cluster declares; false: none.")
    ] = None


class Fraction(Section, frozen=True, kw_only=True):
    """A share of the requests, at random; the others go on to the next route."""

    shorthand: ClassVar[str | None] = "percent"

    percent: Annotated[Percent, doc("How many.")]
    by: Annotated[
        Literal["conversation", "request"],
        doc(
            "Drawn by the prompt's prefix, so that a conversation is always in or always out, or "
            "anew for each request, as Envoy does."
        ),
    ] = "conversation"


class Match(Section, frozen=True, kw_only=True):
    """Conditions that must all hold; without any, every request matches."""

    model: Annotated[
        Text | None,
        doc(
            "The request's model; * and ? are wildcards. A request for an adapter of that model "
            "matches too (see the clusters' adapters)."
        ),
    ] = None
    host: Annotated[
        Text | None, doc("The Host header, with or without its port; * and ? are wildcards.")
    ] = None
    path: Annotated[StringCondition | None, doc("The path without its query.")] = None
    methods: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern="^[A-Z]{1,32}$")], ...],
        doc("HTTP methods, in capitals.", single=True),
    ] = ()
    headers: Annotated[dict[Text, StringCondition], doc("By name, in any case.")] = {}
    query: Annotated[
        dict[Text, StringCondition],
        doc(
            "Parameters of the query by name, the first of each; compared as sent, without "
            "decoding %XX, as Envoy does."
        ),
    ] = {}
    size: Annotated[
        tuple[Name, ...], doc("One of these classes, which `sizes` defines.", single=True)
    ] = ()
    prompt_tokens: Annotated[
        TokenLimits | None, doc("The prompt's estimated tokens, without a class.")
    ] = None
    max_tokens: Annotated[TokenLimits | None, doc("max_tokens, without a class.")] = None
    tenant: Annotated[StringCondition | None, doc("The tenant that the request is for.")] = None
    priority: Annotated[
        tuple[Literal["low", "normal", "high"], ...],
        doc("One of these; normal where nobody said.", single=True),
    ] = ()
    adapter: AdapterCondition | None = None
    fraction: Fraction | None = None
