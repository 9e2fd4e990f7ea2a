"""What each event does to an exchange in each state, as a table.

A pair of state and event that is not in ``TRANSITIONS`` cannot happen.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from router.core import errors, fallback, injection
from router.core.access.tenants import forbidden
from router.core.admission.controller import refuse, waited_too_long
from router.core.answers import own_answer
from router.core.events import (
    FINISHED,
    STAND_BY,
    Cancel,
    Effect,
    Event,
    EventKind,
    Head,
    Relay,
    Reset,
    Stage,
    TimedOut,
    Verdicts,
)
from router.core.host import Outcome
from router.core.retry import race
from router.core.states import State

if TYPE_CHECKING:
    from router.core.exchange import Exchange

_WAITING_FIRST_BYTE: Final = State.WAITING_FIRST_BYTE
_STREAMING: Final = State.STREAMING
_DONE: Final = State.DONE
_ABORTED: Final = State.ABORTED


def _start(exchange: "Exchange", event: Event, now: float) -> Effect:
    request = exchange.request
    if request.permitted is not None and (error := forbidden(request)) is not None:
        return exchange.reject(error, now)
    if exchange.traffic is None:
        return own_answer(exchange, now)
    assert exchange.route is not None
    if exchange.director.limiter.active:
        return exchange.director.limiter.start(exchange, now)
    if exchange.route.fault is not None:
        return injection.enter(exchange, now)
    return exchange.director.admit(exchange, now)


def _verdicts(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, Verdicts)
    return exchange.director.limiter.answered(exchange, event.verdicts, now)


def _timed_out_limiting(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, TimedOut)
    if event.stage is Stage.TOTAL:
        error = errors.TotalTimeout()
        return exchange.reject(error, now)
    return exchange.director.limiter.answered(exchange, None, now)


def _granted(exchange: "Exchange", event: Event, now: float) -> Effect:
    exchange.queued_for += now - exchange.queued_since
    return exchange.connect(now)


def _connected(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert exchange.lease is not None
    exchange.state = _WAITING_FIRST_BYTE
    if exchange.reservation is not None:
        exchange.reservation.reached = True
    monitor = exchange.lease.host.monitor
    if monitor is not None and monitor.split:
        monitor.connected()
    return STAND_BY


def _connect_failed(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert exchange.route is not None and exchange.lease is not None
    address = exchange.lease.host.endpoint.address
    error = errors.ConnectFailure(f"cannot connect to {address}", retry_after=1)
    retriable = exchange.route.retry.retries_connect_failure()
    return exchange.retry_or_reject(Outcome.CONNECT_FAILURE, error, retriable, now)


def _reset_before_head(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, Reset) and exchange.route is not None and exchange.lease is not None
    address = exchange.lease.host.endpoint.address
    retriable = exchange.route.retry.retries_reset()
    error: errors.RouterError
    if event.protocol:
        error = errors.UpstreamProtocolError(f"{address} sent a malformed response")
    else:
        error = errors.UpstreamReset(f"{address} closed the connection without a response")
    return exchange.retry_or_reject(Outcome.RESET, error, retriable, now)


def _head(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, Head) and exchange.route is not None and exchange.lease is not None
    policy, lease = exchange.route.retry, exchange.lease
    lease.answered(event.status, event.retry_after)
    assert lease.verdict is not None
    if lease.verdict is Outcome.PUSHED_BACK:
        lease.refused(now)
        exchange.director.pushed_back(exchange, lease.host, event.retry_after, now)
    if (event.status >= 400 or policy.any_status) and policy.retries_response(
        event.status, event.lines
    ):
        if exchange.may_retry(now, event.lines):
            return exchange.again(lease.verdict, now)
        if exchange.refusal:
            exchange.flag = exchange.refusal
    if event.status >= 429 and exchange.route.fallbacks:
        effect = fallback.after_answer(exchange, event.status, now)
        if effect is not None:
            return effect
    exchange.status = event.status
    exchange.head_at = now
    exchange.state = _STREAMING
    if exchange.injection is not None:
        return Relay(exchange.route.silence_limit, injection.mark(exchange))
    return Relay(exchange.route.silence_limit)


def _complete(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert exchange.lease is not None and exchange.lease.verdict is not None
    if exchange.head_at is not None and exchange.lease.host.latency:
        exchange.first_byte(exchange.head_at)  # no body, or a driver that does not look at bodies
    exchange.end_attempt(exchange.lease.verdict, now)
    exchange.end(_DONE, now)
    return FINISHED


def _truncated(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, Reset) and exchange.lease is not None
    address = exchange.lease.host.endpoint.address
    error: errors.RouterError
    if event.protocol:
        error = errors.UpstreamProtocolError(f"{address} broke the response's framing")
    else:
        error = errors.UpstreamReset(f"{address} closed the connection mid-response")
    return exchange.break_off(Outcome.TRUNCATED, error, now)


def _timed_out_queued(exchange: "Exchange", event: Event, now: float) -> Effect:
    exchange.queued_for += now - exchange.queued_since
    return waited_too_long(exchange, now)


def _displaced(exchange: "Exchange", event: Event, now: float) -> Effect:
    exchange.queued_for += now - exchange.queued_since
    return refuse(exchange, "displaced", "the queue is full, and others come first", now)


def _timed_out_before_head(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, TimedOut) and exchange.route is not None and exchange.lease is not None
    address = exchange.lease.host.endpoint.address
    if event.stage is Stage.CONNECT:
        return _connect_failed(exchange, event, now)
    if event.stage is Stage.HEDGE:
        return race.due(exchange, now)
    if event.stage is Stage.TOTAL:
        exchange.end_attempt(Outcome.TIMEOUT, now)
        return exchange.reject(errors.TotalTimeout(), now)
    error = errors.UpstreamTimeout(f"{address} sent no response head in time")
    retriable = exchange.route.retry.retries_reset()
    return exchange.retry_or_reject(Outcome.TIMEOUT, error, retriable, now)


def _timed_out_streaming(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, TimedOut)
    error: errors.RouterError
    if event.stage is Stage.HOLD:
        return injection.go_on(exchange)
    if event.stage is Stage.IDLE:
        assert exchange.route is not None
        error = errors.StreamIdle("the stream was idle for too long")
        if exchange.route.silence_limit != exchange.route.timeouts.idle:
            error = errors.UpstreamTimeout("the attempt was idle for too long")
        return exchange.break_off(Outcome.TIMEOUT, error, now)
    # It was at work: how long an answer may take is the route's affair.
    return exchange.break_off(Outcome.ABANDONED, errors.TotalTimeout(), now)


def _backed_off(exchange: "Exchange", event: Event, now: float) -> Effect:
    """The place was given back for the wait: there may be others in line for it now."""
    assert isinstance(event, TimedOut)
    if event.stage is Stage.TOTAL:
        error = errors.TotalTimeout()
        return exchange.reject(error, now)
    exchange.queued_since = now
    return exchange.director.admit(exchange, now)


def _client_gone(exchange: "Exchange", event: Event, now: float) -> Effect:
    exchange.flag = "DC"
    if exchange.lease is not None:
        exchange.end_attempt(Outcome.ABANDONED, now)
    exchange.end(_ABORTED, now)
    return FINISHED


def _cancel(exchange: "Exchange", event: Event, now: float) -> Effect:
    assert isinstance(event, Cancel)
    error = errors.Cancelled(event.reason)
    if exchange.state is _STREAMING:
        return exchange.break_off(Outcome.ABANDONED, error, now)
    if exchange.lease is not None:
        exchange.end_attempt(Outcome.ABANDONED, now)
    return exchange.reject(error, now)


Transition = Callable[["Exchange", Event, float], Effect]
_S: Final = State
_E: Final = EventKind

TRANSITIONS: Mapping[tuple[State, EventKind], Transition] = {
    (_S.NEW, _E.START): _start,
    (_S.LIMITING, _E.VERDICTS): _verdicts,
    (_S.LIMITING, _E.TIMED_OUT): _timed_out_limiting,
    (_S.LIMITING, _E.CLIENT_GONE): _client_gone,
    (_S.LIMITING, _E.CANCEL): _cancel,
    (_S.DELAYED, _E.TIMED_OUT): injection.delay_over,
    (_S.DELAYED, _E.CLIENT_GONE): _client_gone,
    (_S.DELAYED, _E.CANCEL): _cancel,
    (_S.QUEUED, _E.GRANTED): _granted,
    (_S.QUEUED, _E.TIMED_OUT): _timed_out_queued,
    (_S.QUEUED, _E.DISPLACED): _displaced,
    (_S.QUEUED, _E.CLIENT_GONE): _client_gone,
    (_S.QUEUED, _E.CANCEL): _cancel,
    (_S.CONNECTING, _E.CONNECTED): _connected,
    (_S.CONNECTING, _E.CONNECT_FAILED): _connect_failed,
    (_S.CONNECTING, _E.TIMED_OUT): _timed_out_before_head,
    (_S.CONNECTING, _E.CLIENT_GONE): _client_gone,
    (_S.CONNECTING, _E.CANCEL): _cancel,
    (_S.CONNECTING, _E.OF_ATTEMPT): race.of_attempt,
    (_S.WAITING_FIRST_BYTE, _E.HEAD): _head,
    (_S.WAITING_FIRST_BYTE, _E.RESET): _reset_before_head,
    (_S.WAITING_FIRST_BYTE, _E.TIMED_OUT): _timed_out_before_head,
    (_S.WAITING_FIRST_BYTE, _E.CLIENT_GONE): _client_gone,
    (_S.WAITING_FIRST_BYTE, _E.CANCEL): _cancel,
    (_S.WAITING_FIRST_BYTE, _E.OF_ATTEMPT): race.of_attempt,
    (_S.BACKING_OFF, _E.TIMED_OUT): _backed_off,
    (_S.BACKING_OFF, _E.CLIENT_GONE): _client_gone,
    (_S.BACKING_OFF, _E.CANCEL): _cancel,
    (_S.STREAMING, _E.COMPLETE): _complete,
    (_S.STREAMING, _E.MARK): injection.marked,
    (_S.STREAMING, _E.RESET): _truncated,
    (_S.STREAMING, _E.TIMED_OUT): _timed_out_streaming,
    (_S.STREAMING, _E.CLIENT_GONE): _client_gone,
    (_S.STREAMING, _E.CANCEL): _cancel,
}

ROWS: Final = tuple(tuple(TRANSITIONS.get((state, kind)) for kind in _E) for state in _S)
"""The same by index: an exchange looks up three to five of them."""
