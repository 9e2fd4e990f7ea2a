"""A request's own decision as one header value, for an operator who asked with the request.

It tells what the exchange's trace recorded, not what would happen now: see ``explain`` for that.
"""

import json
from typing import TYPE_CHECKING, Any

from router.core.trace import RecordingTrace

if TYPE_CHECKING:
    from router.core.exchange import Exchange

HEADER = b"x-warmpath-explain"
MAX_BYTES = 2048
"""Of the value; lists are cut until it fits."""
_LONGEST = 16
"""Items of a list at first."""


def told(exchange: "Exchange") -> dict[str, Any]:
    """What was decided and why.

    ``passed``: routes that did not take it, each with the first condition that failed;
    ``candidates``: endpoint and requests in flight there when it was picked from; ``removed``:
    endpoint and why it was none; ``picks``: attempt, endpoint and why it.
    """
    trace = exchange.trace
    assert isinstance(trace, RecordingTrace)
    found: dict[str, Any] = {"route": None if exchange.route is None else exchange.route.name}
    if exchange.traffic is not None:
        found["cluster"] = exchange.traffic.cluster.name
        if exchange.traffic.hosts.panic:
            found["panic"] = True
    if passed := [[name, failed[0]] for name, failed in trace.routes if failed]:
        found["passed"] = passed
    found["candidates"] = [list(seen) for seen in trace.candidates]
    if trace.removed:
        found["removed"] = [list(pair) for pair in dict.fromkeys(trace.removed)]
    found["picks"] = [list(pick) for pick in trace.picks]
    if trace.refusals:
        found["not_retried"] = trace.refusals
    if exchange.queued_for:
        found["queued"] = round(exchange.queued_for, 4)
    if exchange.standing is not None:
        lines = [line.decode("ascii") for line in exchange.standing.headers()]
        found["limit"] = dict(line.removeprefix("x-ratelimit-").split(": ", 1) for line in lines)
    return found


def line(exchange: "Exchange") -> bytes:
    """The header line, without CRLF: JSON in ASCII, at most ``MAX_BYTES`` of it."""
    found = told(exchange)
    longest = _LONGEST
    while True:
        short = {name: _cut(value, longest) for name, value in found.items()}
        value = json.dumps(short, separators=(",", ":")).encode("ascii")
        if len(value) <= MAX_BYTES:
            return HEADER + b": " + value
        if longest == 0:
            return HEADER + b': {"too_long":true}'
        longest //= 2


def _cut(value: Any, longest: int) -> Any:
    if not isinstance(value, list) or len(value) <= longest:
        return value
    return [*value[:longest], f"and {len(value) - longest} more"]
