"""Lines of the access log as Envoy's command operators describe them."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from router.config.log_format import SERVICE_TIME, Operator, Piece

NOTHING = "-"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SUBSECOND = re.compile(r"%([1-9]?)f")
_FIELDS = {
    "PROTOCOL": "protocol",
    "RESPONSE_CODE": "status",
    "RESPONSE_FLAGS": "flag",
    "BYTES_RECEIVED": "bytes_in",
    "BYTES_SENT": "bytes_out",
    "UPSTREAM_CLUSTER": "cluster",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": "attempts",
    "ROUTE_NAME": "route",
    "DOWNSTREAM_REMOTE_ADDRESS": "client",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": "client",
    "TRACE_ID": "trace_id",
    "REQUEST_ID": "request_id",
}

Record = Mapping[str, Any]


def line_writer(pieces: tuple[Piece, ...]) -> Callable[[Record], bytes]:
    """Writes a record, as a worker sent it, as one line with its end."""

    def write(record: Record) -> bytes:
        words = [piece if isinstance(piece, str) else _text(piece, record) for piece in pieces]
        return "".join(words).encode("utf-8", "replace") + b"\n"

    return write


def _text(operator: Operator, record: Record) -> str:
    value = _value(operator, record)
    if value is None or value == "":
        return NOTHING
    # What clients choose must not begin a line of its own, nor speak to a terminal.
    text = _CONTROL.sub("?", str(value))
    return text if operator.length is None else text[: operator.length]


def _value(operator: Operator, record: Record) -> Any:
    kind = operator.kind
    if (field := _FIELDS.get(kind)) is not None:
        return record[field]
    match kind:
        case "START_TIME":
            return start_time(operator.argument, record["started_at"])
        case "DURATION":
            return _milliseconds(record["duration"])
        case "RESPONSE_DURATION":
            return _milliseconds(record["first_byte"])
        case "RESPONSE_TX_DURATION":
            first = record["first_byte"]
            return None if first is None else _milliseconds(record["duration"] - first)
        case "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS":
            return record["endpoint"].partition("/")[2].partition("#")[0]
        case "RECORD":
            return _plain(record[operator.argument])
        case _:
            return _header(operator, record)


def _header(operator: Operator, record: Record) -> Any:
    kept = record["fields"] or {}
    for name in operator.names:
        if name == ":method":
            value = record["method"]
        elif name == ":path":
            value = record["path"]
        elif name == SERVICE_TIME and operator.kind == "RESP":
            value = _milliseconds(record["first_byte"])
        else:
            value = kept.get(f"{operator.kind}:{name}")
        if value is not None:
            return value
    return None


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(1000 * seconds)


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return round(value, 6) if isinstance(value, float) else value


def start_time(format_: str, at: float) -> str:
    """Unix seconds as UTC; without a format in ISO 8601 with milliseconds, as Envoy writes it."""
    moment = datetime.fromtimestamp(at, UTC)
    if not format_:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    digits = f"{round(at % 1 * 1e6):06d}000"
    text = _SUBSECOND.sub(lambda found: digits[: int(found[1] or 9)], format_)
    return moment.strftime(text.replace("%s", str(int(at))))
