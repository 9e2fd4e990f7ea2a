"""The configuration of what a route changes, and of the answers that it gives itself."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.matches import StringCondition
from router.config.section import Path, Section, Text, doc
from router.config.units import Duration

HeaderValue = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{1,4096}$")]
RewrittenPath = Annotated[str, msgspec.Meta(pattern=r'^/[!-"$->@-~]{0,1023}$')]
"""Without a query."""
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Host = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._~-]{1,255}(:\d{1,5})?$")]
_Method = Annotated[str, msgspec.Meta(pattern="^([A-Z]{1,32}|[*])$")]


class HeaderEditsSpec(Section, frozen=True, kw_only=True):
    """Changes to headers: what is removed goes first, then what is set, then what is added.

    Values may hold operators such as %REQ(name)%; a percent sign is written %%.
    """

    set: Annotated[dict[Text, HeaderValue], doc("In the place of any that are there.")] = {}
    add: Annotated[dict[Text, HeaderValue], doc("One more line, whatever is there.")] = {}
    add_if_absent: Annotated[dict[Text, HeaderValue], doc("Only where there is none.")] = {}
    remove: Annotated[tuple[Text, ...], doc("Names of headers.", single=True)] = ()


class HeadersSpec(Section, frozen=True, kw_only=True):
    """Changes to the headers that engines and clients get."""

    request: HeaderEditsSpec = HeaderEditsSpec()
    response: HeaderEditsSpec = HeaderEditsSpec()


class RegexRewrite(Section, frozen=True, kw_only=True):
    """Each match of a regular expression in the path gives way to the substitution."""

    pattern: Annotated[Text, doc("Python's syntax; it sees the path without its query.")]
    substitution: Annotated[
        Annotated[str, msgspec.Meta(pattern=r'^[!-"$->@-~]{0,1024}$')],
        doc(r"May hold \1 to \9 for groups and \0 for the whole match, as in Envoy."),
    ]


class Rewrite(Section, frozen=True, kw_only=True):
    """What the engine is told instead of what the client sent.

    The old path and host go along in x-envoy-original-path and x-envoy-original-host.
    """

    prefix: Annotated[
        RewrittenPath | None,
        doc("Takes the place of what match.path matched, by prefix or exactly."),
    ] = None
    regex: RegexRewrite | None = None
    host: Annotated[_Host | None, doc("The Host header.")] = None
    model: Annotated[
        Text | None,
        doc(
            "The model's name in the body. Nothing else of the body is touched; the response "
            "names the model as the engine does."
        ),
    ] = None


class RedirectSpec(Section, frozen=True, kw_only=True):
    """Sends clients elsewhere. What is not given stays as it was asked for."""

    scheme: Annotated[
        Annotated[str, msgspec.Meta(pattern="^https?$")] | None, doc("http or https.")
    ] = None
    host: Annotated[_Host | None, doc("With a port, if it needs one.")] = None
    port: Annotated[_Port | None, doc("Of the new address.")] = None
    path: Annotated[
        Path | None, doc("The whole path; one with a query of its own replaces that too.")
    ] = None
    prefix: Annotated[RewrittenPath | None, doc("Takes the place of what match.path matched.")] = (
        None
    )
    regex: RegexRewrite | None = None
    status: Annotated[
        Literal[301, 302, 303, 307, 308], doc("Only the last two keep a POST what it is.")
    ] = 301
    strip_query: Annotated[bool, doc("Leave the query out.")] = False


class DirectResponseSpec(Section, frozen=True, kw_only=True):
    """An answer that is always the same."""

    status: Annotated[int, doc("What the client gets.", ge=200, le=599)]
    body: Annotated[Annotated[str, msgspec.Meta(max_length=65536)], doc("As UTF-8.")] = ""
    content_type: Annotated[HeaderValue, doc("Of the body.")] = "text/plain"


class CorsSpec(Section, frozen=True, kw_only=True):
    """Which web pages may call from a browser. Preflights are answered by the router."""

    planned: ClassVar[Mapping[str, str]] = {
        "allow_private_network": "browsers that ask for it are not answered"
    }

    allow_origins: Annotated[
        tuple[StringCondition, ...],
        doc('Such as https://chat.example.com; "*" allows all.', single=True),
    ]
    allow_methods: Annotated[tuple[_Method, ...], doc("What preflights are told.", single=True)] = (
        "GET",
        "POST",
    )
    allow_headers: Annotated[
        tuple[Text, ...], doc("Headers that scripts may send.", single=True)
    ] = ("authorization", "content-type")
    expose_headers: Annotated[
        tuple[Text, ...], doc("Headers that scripts may read.", single=True)
    ] = ("x-request-id",)
    max_age: Annotated[
        Duration, doc("For how long browsers may remember a preflight; 0: as they like.")
    ] = Duration(0)
    allow_credentials: Annotated[bool, doc("Cookies may be sent along.")] = False
