"""What ``explain`` says of a route's faults: which there are, and which hit this request."""

from router.core.events import Effect, Hold, Stage, TimedOut
from router.core.exchange import Exchange
from router.core.explanation import FaultSeen
from router.core.fault import Fault


def after_delay(exchange: Exchange, effect: Effect, now: float) -> Effect:
    """What follows the delay, if there is one."""
    if isinstance(effect, Hold):
        return exchange.feed(TimedOut(Stage.HOLD), now)
    return effect


def faults_seen(exchange: Exchange) -> tuple[FaultSeen, ...]:
    """Call it when the exchange is past its delay and abort."""
    fault = None if exchange.route is None else exchange.route.fault
    if fault is None:
        return ()
    injection = exchange.injection
    concerned = fault.concerns(exchange.request)
    drawn = {
        "delay": injection is not None and injection.delayed,
        "abort": injection is not None and injection.broken,
    }
    return tuple(
        FaultSeen(
            kind=kind,
            does=does,
            percent=percent,
            concerned=concerned and (kind in drawn or exchange.request.stream),
            drawn=drawn.get(kind),
        )
        for kind, does, percent in _words(fault)
    )


def _words(fault: Fault) -> list[tuple[str, str, float]]:
    """(kind, what it does, percent) of each, in the order in which they happen."""
    words: list[tuple[str, str, float]] = []
    if fault.delay is not None:
        words.append(("delay", f"waits {fault.delay.seconds:g}s first", fault.delay.percent))
    if fault.abort is not None:
        words.append(("abort", f"answers {fault.abort.status}", fault.abort.percent))
    if (stall := fault.stall) is not None:
        does = f"pauses {stall.seconds:g}s after event {stall.after}"
        words.append(("stall", does, stall.percent))
    if fault.cut is not None:
        words.append(("cut", f"ends the stream after event {fault.cut.after}", fault.cut.percent))
    return words
