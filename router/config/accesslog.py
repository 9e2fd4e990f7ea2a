"""The access log and the trace context in the configuration file."""

from typing import Annotated, ClassVar, Literal

from router.config.log_format import ENVOY, Piece, parse
from router.config.section import Section, Status, Text, doc
from router.config.units import Duration, Percent, Secret

SHORTEST_SALT = 16


class LogFormat(Section, frozen=True, kw_only=True):
    """How a line is written: json, envoy, or a text of your own."""

    shorthand: ClassVar[str | None] = "kind"

    kind: Annotated[
        Literal["json", "envoy", "text"],
        doc("json: one object a line; envoy: Envoy's default format; text: as `text` says."),
    ] = "text"
    text: Annotated[
        Text | None,
        doc("Texts and Envoy's command operators, as `%START_TIME% %REQ(USER-AGENT):40%`."),
    ] = None

    def __post_init__(self) -> None:
        if (self.kind == "text") is not (self.text is not None):
            raise ValueError("write json, envoy, or {text: '%START_TIME% ...'}")
        if self.text is not None:
            parse(self.text)

    def pieces(self) -> tuple[Piece, ...]:
        """Of a line; none for JSON."""
        if self.kind == "json":
            return ()
        return parse(ENVOY if self.text is None else self.text)


class AlwaysLogged(Section, frozen=True, kw_only=True):
    """Requests that get a line whatever `sample` says; without a field, none do for it."""

    status: Annotated[Status | None, doc("Those answered with this status or a higher one.")] = None
    slower_than: Annotated[
        Duration, doc("Those that took longer from arrival to end; 0 for none.")
    ] = Duration(0)


class AccessLog(Section, frozen=True, kw_only=True):
    """One line for each request, never with a byte of a body. A plain text is its path."""

    shorthand: ClassVar[str | None] = "path"

    path: Annotated[Text, doc("stdout, stderr, off, or a file to append to.")] = "stdout"
    format: LogFormat = LogFormat(kind="json")
    sample: Annotated[Percent, doc("Share of the requests that get a line, drawn at random.")] = (
        Percent(100)
    )
    always: AlwaysLogged = AlwaysLogged()
    prefix: Annotated[
        Literal["off", "salted"],
        doc(
            "salted: lines name the beginnings of prompts, so that the traffic can be replayed; "
            "nobody without the salt can tell of what text a name is."
        ),
    ] = "off"
    salt: Annotated[
        Secret | None,
        doc(
            "16 characters or more, file:/path or ${ENV}: the same prompts have the same names in "
            "all logs with this salt. Without it each start of the router has a random one."
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.salt is not None and self.prefix != "salted":
            raise ValueError("a salt has no meaning without `prefix: salted`")
        if self.salt is not None and len(self.salt.reveal()) < SHORTEST_SALT:
            raise ValueError(f"a salt has at least {SHORTEST_SALT} characters")


class TraceContext(Section, frozen=True, kw_only=True):
    """What becomes of W3C trace contexts (traceparent, tracestate)."""

    propagate: Annotated[bool, doc("Pass the client's on to engines, untouched.")] = True
    generate: Annotated[
        Literal["never", "unsampled", "sampled"],
        doc("Make a traceparent where engines would get none, with the sampled flag or without."),
    ] = "never"

    @property
    def usual(self) -> bool:
        """Whether heads pass as they are."""
        return self.propagate and self.generate == "never"
