"""The way of an exchange through its route's faults.

    NEW -> DELAYED -> admission, or aborted            STREAMING: mark -> cut, or stalled and on

Called from ``transitions``. Nothing of this is an endpoint's doing: a stream that is cut here
counts as given up, and the delay comes before there is an attempt. As in Envoy, the route's total
time-out does not run while a request is delayed; it does while a stream is stalled.
"""

from typing import TYPE_CHECKING

from router.core import errors
from router.core.events import STAND_BY, Effect, Event, Hold, Relay, Stage, Stall, TimedOut
from router.core.fault import Injection, drawn
from router.core.host import Outcome
from router.core.states import State

if TYPE_CHECKING:
    from router.core.exchange import Exchange


def enter(exchange: "Exchange", now: float) -> Effect:
    """What becomes of a request that may look for a place, on a route with faults."""
    effect = _begin(exchange, now)
    return exchange.director.admit(exchange, now) if effect is None else effect


def _begin(exchange: "Exchange", now: float) -> Effect | None:
    assert exchange.route is not None and exchange.route.fault is not None
    fault, director = exchange.route.fault, exchange.director
    if not fault.concerns(exchange.request):
        return None
    exchange.injection = injection = Injection(fault, director.faults(exchange.route.name))
    if fault.delay is not None and drawn(fault.delay.percent, director.rng) and injection.hold():
        injection.inject("delay")
        exchange.state = State.DELAYED
        return Hold(fault.delay.seconds)
    return _abort(exchange, injection, now)


def _abort(exchange: "Exchange", injection: Injection, now: float) -> Effect | None:
    abort = injection.fault.abort
    if abort is None or not drawn(abort.percent, exchange.director.rng):
        return None
    injection.inject("abort")
    return exchange.reject(errors.InjectedAbort(abort.status), now)


def delay_over(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, TimedOut) and exchange.injection is not None
    if event.stage is not Stage.HOLD:
        return STAND_BY  # a clock set before the delay
    exchange.injection.let_go()
    exchange.queued_since = now
    aborted = _abort(exchange, exchange.injection, now)
    return exchange.director.admit(exchange, now) if aborted is None else aborted


# --- streams ----------------------------------------------------------------------------------


def mark(exchange: "Exchange") -> int:
    """After how many events of the stream that begins MARK is to be told of; 0 for never."""
    injection = exchange.injection
    if injection is None or not exchange.request.stream or exchange.status >= 400:
        return 0
    rng, cut, stall = exchange.director.rng, injection.fault.cut, injection.fault.stall
    if stall is not None and drawn(stall.percent, rng):
        injection.marks.append((stall.after, "stall"))
    if cut is not None and drawn(cut.percent, rng):
        injection.marks.append((cut.after, "cut"))
    injection.marks.sort(key=lambda one: one[0])
    return injection.marks[0][0] if injection.marks else 0


def marked(exchange: "Exchange", event: Event, now: float) -> Effect:
    injection = exchange.injection
    assert injection is not None and injection.marks
    _, kind = injection.marks.pop(0)
    if kind == "cut":
        injection.inject("cut")
        return exchange.break_off(Outcome.ABANDONED, errors.InjectedCut(), now)
    stall = injection.fault.stall
    assert stall is not None
    if not injection.hold():
        return go_on(exchange)
    injection.inject("stall")
    return Stall(stall.seconds)


def go_on(exchange: "Exchange") -> Effect:
    """The stream flows, to the next mark if there is one."""
    assert exchange.injection is not None and exchange.route is not None
    exchange.injection.let_go()
    marks = exchange.injection.marks
    return Relay(exchange.route.silence_limit, marks[0][0] if marks else 0)
