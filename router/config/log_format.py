"""Envoy's command operators in a line of the access log, parsed and checked when it is loaded.

``%NAME%``, ``%NAME(ARGUMENT)%`` and ``%NAME(ARGUMENT):LENGTH%``; ``%%`` is a percent sign. An
operator that cannot be told, or a header whose value is a secret, is refused by name.
"""

import re
from collections.abc import Iterator

import msgspec

ENVOY = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
"""Envoy's default format string, without its line end."""

PLAIN = {
    "PROTOCOL": "HTTP/1.1 or HTTP/1.0",
    "RESPONSE_CODE": "status, 0 where none was sent",
    "RESPONSE_FLAGS": "Envoy's flags, - for none",
    "BYTES_RECEIVED": "bytes of the request's body",
    "BYTES_SENT": "bytes sent to the client, the head included",
    "DURATION": "milliseconds from the request's arrival to its end",
    "RESPONSE_DURATION": "milliseconds to the engine's response head",
    "RESPONSE_TX_DURATION": "milliseconds from there to the end",
    "UPSTREAM_HOST": "address of the last endpoint",
    "UPSTREAM_REMOTE_ADDRESS": "the same",
    "UPSTREAM_CLUSTER": "cluster",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": "attempts",
    "ROUTE_NAME": "route",
    "DOWNSTREAM_REMOTE_ADDRESS": "the client's address, without its port",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "the same",
    "TRACE_ID": "trace id of the W3C trace context",
    "REQUEST_ID": "the request's id",
}
"""Operators without an argument."""
WITH_ARGUMENT = {
    "START_TIME": "when the request arrived, UTC; the argument is a strftime format",
    "REQ": "a request header, or the first of X?Y; :METHOD, :PATH, :AUTHORITY and :SCHEME too",
    "RESP": "a header of the engine's response",
    "RECORD": "a field of the JSON line",
}
PSEUDO = frozenset({":method", ":path", ":authority", ":scheme"})
SERVICE_TIME = "x-envoy-upstream-service-time"
SECRETS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})

RECORD_FIELDS = (
    *("request_id", "method", "path", "client", "route", "cluster", "endpoint", "model", "stream"),
    *("status", "flag", "reason", "attempts", "duration", "queued", "first_byte", "ttft"),
    *("bytes_in", "bytes_out", "chunks", "prompt_tokens", "completion_tokens", "cached_tokens"),
    *("tenant", "trace_id", "prompt_bytes", "prefix"),
)

_OPERATOR = re.compile(r"%(?:%|([A-Z_0-9]+)(?:\(([^()]*)\))?(?::(\d{1,5}))?%)")
_HEADER = re.compile(r":?[A-Za-z0-9!#$&'*+.^_`|~-]+")
_DIRECTIVE = re.compile(r"%([1-9]?.?)", re.DOTALL)
_STRFTIME = frozenset("aAbBcdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%")


class Operator(msgspec.Struct, frozen=True):
    """One operator. ``names``: headers in order of preference, lower case; ``length``: or None."""

    kind: str
    argument: str = ""
    names: tuple[str, ...] = ()
    length: int | None = None


Piece = str | Operator


class UnknownFormat(ValueError):
    """The format cannot be used; the message says what of it."""


def parse(text: str) -> tuple[Piece, ...]:
    """The literal texts and operators of a format string.

    Raises:
        UnknownFormat: an unknown operator, a wrong argument, or a lone percent sign.
    """
    return tuple(_pieces(text))


def _pieces(text: str) -> Iterator[Piece]:
    position = 0
    while (percent := text.find("%", position)) >= 0:
        if percent > position:
            yield text[position:percent]
        matched = _OPERATOR.match(text, percent)
        if matched is None:
            raise UnknownFormat(
                f"no operator at {text[percent : percent + 24]!r}; write %NAME%, or %% for a "
                "percent sign"
            )
        name, argument, length = matched.groups()
        yield "%" if name is None else _operator(name, argument, length)
        position = matched.end()
    if position < len(text):
        yield text[position:]


def _operator(name: str, argument: str | None, length: str | None) -> Operator:
    if name in PLAIN:
        if argument is not None or length is not None:
            raise UnknownFormat(f"%{name}% takes no argument")
        return Operator(name)
    if name not in WITH_ARGUMENT:
        known = ", ".join((*PLAIN, *WITH_ARGUMENT))
        raise UnknownFormat(f"unknown operator %{name}%; known are {known}")
    limit = None if length is None else int(length)
    if name == "START_TIME":
        _check_time(argument or "")
        return Operator(name, argument or "")
    if not argument:
        raise UnknownFormat(f"%{name}% needs an argument, as in %{name}(x)%")
    if name == "RECORD":
        if argument not in RECORD_FIELDS:
            raise UnknownFormat(
                f"%RECORD({argument})%: no such field; there are {', '.join(RECORD_FIELDS)}"
            )
        return Operator(name, argument, length=limit)
    names = tuple(part.lower() for part in argument.split("?"))
    if len(names) > 2:
        raise UnknownFormat(f"%{name}({argument})%: at most one alternative")
    for header in names:
        _check_header(name, header)
    return Operator(name, argument, names, limit)


def _check_header(operator: str, name: str) -> None:
    if _HEADER.fullmatch(name) is None or (name.startswith(":") and operator == "RESP"):
        raise UnknownFormat(f"%{operator}({name})%: not a header's name")
    if name.startswith(":") and name not in PSEUDO:
        raise UnknownFormat(f"%{operator}({name})%: known are {', '.join(sorted(PSEUDO))}")
    if name in SECRETS:
        raise UnknownFormat(f"%{operator}({name})%: its value is a secret and is never logged")


def _check_time(format_: str) -> None:
    for directive in _DIRECTIVE.findall(format_):
        if directive not in _STRFTIME and directive.lstrip("123456789") not in ("f", "s"):
            raise UnknownFormat(f"%START_TIME({format_})%: unknown directive %{directive}")


def headers(pieces: tuple[Piece, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The request's and the response's headers that must be kept for a line."""
    wanted: dict[str, dict[str, None]] = {"REQ": {}, "RESP": {}}
    for piece in pieces:
        if isinstance(piece, Operator) and piece.kind in wanted:
            wanted[piece.kind].update(dict.fromkeys(piece.names))
    needed = [name for name in wanted["REQ"] if name not in {":method", ":path"}]
    return tuple(needed), tuple(name for name in wanted["RESP"] if name != SERVICE_TIME)
