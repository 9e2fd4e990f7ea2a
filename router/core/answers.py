"""Requests that no endpoint is to serve: no route takes them, or theirs answers by itself."""

from typing import TYPE_CHECKING

from router.core.actions import Preflight
from router.core.cors import requested_method
from router.core.events import Answer, Effect
from router.core.header_edits import Facts
from router.core.states import State

if TYPE_CHECKING:
    from router.core.exchange import Exchange


def own_answer(exchange: "Exchange", now: float) -> Effect:
    """The end of an exchange that has no cluster."""
    route, request, director = exchange.route, exchange.request, exchange.director
    if route is None or route.answer is None:
        cors = director.snapshot.cors
        if cors is not None and requested_method(request) and (asked := cors.preflight(request)):
            return _given(exchange, Answer(200, tuple(asked)), now)
        error = director.unroutable(request)
        if cors is not None:
            error.headers += tuple(cors.lines(request))
        return exchange.reject(error, now)
    answer, actions = route.answer, route.actions
    lines = answer.lines(request)
    if actions is not None and not isinstance(answer, Preflight):
        lines = actions.response_lines(lines, Facts(request, route.name))
    return _given(exchange, Answer(answer.status, tuple(lines), answer.body), now)


def _given(exchange: "Exchange", answer: Answer, now: float) -> Effect:
    exchange.status = answer.status
    exchange.end(State.DONE, now)
    return answer
