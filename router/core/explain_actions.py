"""What a route would change: its edits, done to the request that is asked about."""

from router.core.actions import Actions
from router.core.events import Answer
from router.core.exchange import Exchange
from router.core.explanation import AnswerSeen, Changes
from router.core.header_edits import Facts
from router.core.model import Endpoint

SHOWN_BODY = 200
"""Characters of a fixed answer's body."""


def changes(exchange: Exchange, endpoint: Endpoint | None) -> Changes | None:
    """What is changed on the way to ``endpoint`` and back; None for nothing."""
    actions, route, traffic = exchange.actions, exchange.route, exchange.traffic
    if actions is None or route is None or traffic is None:
        return None
    request = exchange.request
    facts = Facts(request, route.name, traffic.cluster.name, endpoint)
    sent = [name + b": " + value for name, value in request.headers]
    path = None
    if actions.path is not None:
        path = actions.path.target(request.target).decode("latin-1")
    return Changes(
        path=path,
        host=actions.host,
        model=actions.model,
        request=_differences(sent, actions.request_lines(sent, facts)),
        response=_response(actions, facts),
    )


def answer_seen(effect: Answer) -> AnswerSeen:
    return AnswerSeen(
        status=effect.status,
        headers=tuple(line.decode("latin-1") for line in effect.lines),
        body=effect.body.decode("utf-8", "replace")[:SHOWN_BODY],
    )


def _response(actions: Actions, facts: Facts) -> tuple[str, ...]:
    removed = sorted({name for edits in actions.response for name in edits.remove})
    added = actions.response_lines([], facts)
    return (
        *(f"- {name.decode('latin-1')}" for name in removed),
        *(f"+ {line.decode('latin-1')}" for line in added),
    )


def _differences(before: list[bytes], after: list[bytes]) -> tuple[str, ...]:
    return (
        *(f"- {line.decode('latin-1')}" for line in before if line not in after),
        *(f"+ {line.decode('latin-1')}" for line in after if line not in before),
    )
