"""Whether a route takes a request: conditions, all of which must hold.

A ``Matcher`` has fields for the conditions that most routes have; the others are objects in
``more``, in the order in which they are looked at. A condition that does not hold names itself,
and says for ``explain`` what it wants and what the request has.
"""

import fnmatch
import re
from typing import Literal, Protocol

import msgspec
import xxhash

from router.core.clock import Rng
from router.core.model import BYTES_PER_TOKEN, LlmRequest, Priority

StringKind = Literal["exact", "prefix", "suffix", "contains", "regex", "range", "present"]

_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,19})\s*", re.ASCII)


class StringMatch(msgspec.Struct, frozen=True):
    """A condition on one string.

    A ``regex`` must match the whole value. A ``range`` takes whole numbers from ``low`` up to but
    not including ``high``. ``present`` ignores ``value``. ``invert`` negates; an absent string
    matches only an inverted ``present``. ``ignore_case`` means nothing to a ``regex``, as in Envoy.
    """

    kind: StringKind
    value: str = ""
    invert: bool = False
    ignore_case: bool = False
    low: int = 0
    high: int = 0

    def matches(self, text: str | None) -> bool:
        if text is None:
            return self.kind == "present" and self.invert
        if self.ignore_case:
            return self._compare(text.lower(), self.value.lower()) is not self.invert
        return self._compare(text, self.value) is not self.invert

    def _compare(self, text: str, value: str) -> bool:
        match self.kind:
            case "exact":
                return text == value
            case "prefix":
                return text.startswith(value)
            case "suffix":
                return text.endswith(value)
            case "contains":
                return value in text
            case "regex":
                # `re` keeps its own bounded cache of compiled patterns.
                return re.fullmatch(self.value, text) is not None
            case "range":
                number = _INTEGER.fullmatch(text)
                return number is not None and self.low <= int(number[1]) < self.high
            case "present":
                return True

    def __str__(self) -> str:
        if self.kind == "present":
            return "absent" if self.invert else "present"
        what = f"[{self.low}, {self.high})" if self.kind == "range" else repr(self.value)
        case = " in any case" if self.ignore_case else ""
        return f"{'not ' if self.invert else ''}{self.kind} {what}{case}"


def shown(value: str | None) -> str:
    """A text of the request, for people."""
    return "none" if value is None else repr(value)


# --- conditions that few routes have ----------------------------------------------------------


class Condition(Protocol):
    """One more condition. ``label`` is its name in an explanation."""

    @property
    def label(self) -> str: ...

    def holds(self, request: LlmRequest, rng: Rng) -> bool: ...

    def words(self, request: LlmRequest) -> str:
        """What it wants and what the request has."""
        ...


class QueryIs(msgspec.Struct, frozen=True):
    """On the first parameter of this name; as sent, not percent-decoded, as in Envoy."""

    name: str
    condition: StringMatch

    @property
    def label(self) -> str:
        return f"query {self.name}"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        return self.condition.matches(query_value(request.query, self.name))

    def words(self, request: LlmRequest) -> str:
        value = query_value(request.query, self.name)
        return f"{self.label}: wants {self.condition}, has {shown(value)}"


def query_value(query: str, name: str) -> str | None:
    """The first parameter of this name; None if there is none."""
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            return value
    return None


class TokenRange(msgspec.Struct, frozen=True):
    """From ``low`` to ``high``, both inclusive; None for no upper bound."""

    low: int = 0
    high: int | None = None

    def __contains__(self, tokens: int | None) -> bool:
        """``tokens``: None for no limit, which only a range without an upper bound takes."""
        if tokens is None:
            return self.high is None
        return self.low <= tokens and (self.high is None or tokens <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}" if self.low else "any"
        return f"{self.low} to {self.high}"


class SizeClass(msgspec.Struct, frozen=True):
    """A class of requests by their estimated prompt and by what they may generate.

    The estimate does not learn, as that of rate limits does: a route must not drift.
    """

    name: str = ""
    prompt_tokens: TokenRange = TokenRange()
    max_tokens: TokenRange = TokenRange()
    bytes_per_token: float = BYTES_PER_TOKEN

    def takes(self, request: LlmRequest) -> bool:
        return (
            request.max_tokens in self.max_tokens
            and request.estimated_prompt(self.bytes_per_token) in self.prompt_tokens
        )

    def has(self, request: LlmRequest) -> str:
        """What the request has of both."""
        asked = request.max_tokens
        limit = "no max_tokens" if asked is None else f"max_tokens {asked}"
        return f"about {request.estimated_prompt(self.bytes_per_token)} of prompt, {limit}"


def size_of(request: LlmRequest, classes: tuple[SizeClass, ...]) -> str | None:
    """The first class that takes the request; None if none does."""
    for one in classes:
        if one.takes(request):
            return one.name
    return None


class SizeIs(msgspec.Struct, frozen=True):
    """The request is of one of these classes. ``classes``: all of them, in their order."""

    names: tuple[str, ...]
    classes: tuple[SizeClass, ...]
    label: str = "size"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        return size_of(request, self.classes) in self.names

    def words(self, request: LlmRequest) -> str:
        has = size_of(request, self.classes) or "none of them"
        tokens = self.classes[0].has(request)
        return f"size: wants {' or '.join(self.names)}, is {has} ({tokens})"


class TokensWithin(msgspec.Struct, frozen=True):
    """Ranges given in the route itself."""

    ranges: SizeClass
    label: str = "tokens"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        return self.ranges.takes(request)

    def words(self, request: LlmRequest) -> str:
        wants = f"prompt {self.ranges.prompt_tokens} and max_tokens {self.ranges.max_tokens}"
        return f"tokens: wants {wants}, has {self.ranges.has(request)}"


class TenantIs(msgspec.Struct, frozen=True):
    condition: StringMatch
    label: str = "tenant"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        return self.condition.matches(request.tenant)

    def words(self, request: LlmRequest) -> str:
        return f"tenant: wants {self.condition}, has {shown(request.tenant)}"


class PriorityIn(msgspec.Struct, frozen=True):
    priorities: tuple[Priority, ...]
    label: str = "priority"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        return request.priority in self.priorities

    def words(self, request: LlmRequest) -> str:
        wants = " or ".join(one.name.lower() for one in self.priorities)
        return f"priority: wants {wants}, has {request.priority.name.lower()}"


class AdapterIs(msgspec.Struct, frozen=True):
    """On the LoRA adapter that a request names as its model. ``known``: all adapters' names.

    ``pattern`` may hold ``*`` and ``?``; None asks only whether it is an adapter at all, and with
    ``absent`` that it is none.
    """

    known: frozenset[str]
    pattern: str | None = None
    absent: bool = False
    label: str = "adapter"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        model = request.model
        if model not in self.known:
            return self.absent
        if self.absent or model is None:
            return False
        return self.pattern is None or fnmatch.fnmatchcase(model, self.pattern)

    def words(self, request: LlmRequest) -> str:
        wants = "none" if self.absent else "any" if self.pattern is None else repr(self.pattern)
        has = request.model if request.model in self.known else None
        return f"adapter: wants {wants}, has {shown(has)}"


class Share(msgspec.Struct, frozen=True):
    """A share of the requests, at random. ``percent``: 0 to 100.

    By conversation, the same ones always: drawn from the hash of the prompt's beginning, mixed
    with ``salt``, so that two routes do not take the same ones. Without a hash it is drawn anew.
    """

    percent: float
    salt: str
    by_conversation: bool = False
    label: str = "fraction"

    def holds(self, request: LlmRequest, rng: Rng) -> bool:
        if self.by_conversation and request.prefix_hash is not None:
            point = xxhash.xxh3_64_intdigest(b"%x?" % request.prefix_hash + self.salt.encode())
            return point * 100 < self.percent * (1 << 64)
        return rng.random() * 100 < self.percent

    def words(self, request: LlmRequest) -> str:
        unit = "conversations" if self.by_conversation else "requests"
        return f"fraction: wants {self.percent:g}% of {unit}, drawn not to be among them"


# --- all of a route's -------------------------------------------------------------------------


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions on a request, all of which must hold. None or empty: no condition.

    ``host`` and ``model`` may hold ``*`` and ``?``; ``path`` sees the path without its query.
    ``adapters``: the LoRA adapters of the models that ``model`` names, which it takes too.
    """

    host: str | None = None
    path: StringMatch | None = None
    methods: tuple[str, ...] = ()
    headers: tuple[tuple[str, StringMatch], ...] = ()
    model: str | None = None
    adapters: frozenset[str] = frozenset()
    more: tuple[Condition, ...] = ()

    def matches(self, request: LlmRequest, rng: Rng) -> bool:
        model = self.model
        if model is not None and model != request.model and not self.takes_model(request.model):
            return False
        return not self.mismatches(request, rng)

    def mismatches(self, request: LlmRequest, rng: Rng) -> tuple[str, ...]:
        """The conditions that do not hold, for ``explain``; the first suffices to say no."""
        if not self.takes_model(request.model):
            return ("model",)
        if self.methods and request.method not in self.methods:
            return ("method",)
        if self.path is not None and not self.path.matches(request.path):
            return ("path",)
        if self.host is not None and not _host_matches(self.host, request.authority):
            return ("host",)
        for name, condition in self.headers:
            raw = request.header(name.encode("latin-1"))
            if not condition.matches(None if raw is None else raw.decode("latin-1")):
                return (f"header {name}",)
        for other in self.more:
            if not other.holds(request, rng):
                return (other.label,)
        return ()

    def takes_preflight(self, request: LlmRequest, method: str) -> bool:
        """Whether the request that a preflight asks about might match: it comes without a body,
        so that only its address can be looked at."""
        return (
            (not self.methods or method in self.methods)
            and (self.path is None or self.path.matches(request.path))
            and (self.host is None or _host_matches(self.host, request.authority))
        )

    def takes_model(self, model: str | None) -> bool:
        if self.model is None:
            return True
        if model is None:
            return False
        return (
            self.model == model or model in self.adapters or fnmatch.fnmatchcase(model, self.model)
        )

    def words(self, label: str, request: LlmRequest) -> str:
        """What the condition of this label wants, and what the request has."""
        kind, _, name = label.partition(" ")
        if kind == "model":
            return f"model: wants {self.model!r}, has {shown(request.model)}"
        if kind == "method":
            return f"method: wants {' or '.join(self.methods)}, has {request.method}"
        if kind == "path":
            return f"path: wants {self.path}, has {request.path!r}"
        if kind == "host":
            return f"host: wants {self.host!r}, has {request.authority!r}"
        if kind == "header":
            wanted = next(condition for header, condition in self.headers if header == name)
            raw = request.header(name.encode("latin-1"))
            has = None if raw is None else raw.decode("latin-1")
            return f"header {name}: wants {wanted}, has {shown(has)}"
        return next(other for other in self.more if other.label == label).words(request)

    def bare(self, headers: tuple[tuple[str, StringMatch], ...]) -> bool:
        """Whether a request of the model named here, if one is, always matches but for these
        conditions on headers."""
        only = Matcher(model=self.exact_model, adapters=self.adapters, headers=self.headers)
        return not headers and self == only

    @property
    def exact_model(self) -> str | None:
        """The one model this matcher takes, its adapters aside; None for several or any."""
        if self.model is None or any(char in self.model for char in "*?["):
            return None
        return self.model


def _host_matches(pattern: str, authority: str) -> bool:
    host = authority.lower()
    bare = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return fnmatch.fnmatchcase(host, pattern.lower()) or fnmatch.fnmatchcase(bare, pattern.lower())
