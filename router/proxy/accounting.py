"""What is reported of an exchange when it is over."""

from typing import TYPE_CHECKING

from router.core.errors import RouterError, Unauthorized
from router.core.exchange import Exchange
from router.proxy.tracing import trace_id
from router.proxy.usage import Usage, usage
from router.telemetry.record import ExchangeRecord

if TYPE_CHECKING:
    from router.proxy.door import Visit
    from router.proxy.headers import RequestHead
    from router.proxy.relay import Relay
    from router.proxy.server import ProxyServer
    from router.proxy.shadow import Copy

_SILENT: Usage = (None, None, None)


def record_of(
    relay: "Relay",
    server: "ProxyServer",
    exchange: Exchange,
    ended_at: float,
    tail: list[bytes],
) -> ExchangeRecord:
    """The record of an exchange that has ended.

    Args:
        tail: the last reads of its response, if they may tell of usage.
    """
    request, route, traffic, reply = exchange.request, exchange.route, exchange.traffic, relay.reply
    prompt, completion, cached = usage(tail) if tail else _SILENT
    arrived = relay.arrived
    head_at, first_body_at = exchange.head_at, relay.first_body_at
    tried = exchange.tried
    fields, tracing, given = server.log_fields, server.tracing, relay.head.shape.traceparent
    traced = None
    if tracing is not None:
        traced = tracing.logged(relay.head, exchange)
    elif given:
        traced = trace_id(given)
    return ExchangeRecord(
        request.id,
        request.method,
        request.path,
        request.client,
        "-" if route is None else route.name,
        "-" if traffic is None else traffic.cluster.name,
        tried[-1] if tried else "-",
        request.model or "-",
        request.stream,
        exchange.status,
        exchange.flag,
        exchange.reason,
        exchange.attempt,
        relay.arrived_wall,
        ended_at - arrived,
        exchange.queued_for,
        None if head_at is None else head_at - arrived,
        None if first_body_at is None else first_body_at - arrived,
        relay.bytes_in,
        relay.bytes_out,
        relay.chunks,
        prompt,
        completion,
        cached,
        request.tenant,
        traced,
        "HTTP/1.1" if relay.head.http11 else "HTTP/1.0",
        None if fields is None else fields.of(request, None if reply is None else reply.response),
        None if exchange.detour is None else str(exchange.detour),
        0 if exchange.race is None else exchange.race.hedges,
        request.prompt_bytes if server.logs_prefixes else None,
        request.checkpoints if server.logs_prefixes else None,
    )


def shadow_record(
    copy: "Copy", exchange: Exchange, ending: str, received: int, tokens: Usage, now: float
) -> ExchangeRecord:
    """The record of a copy that a mirror was sent. ``tokens``: as the mirror's engine told."""
    request, route = exchange.request, exchange.route
    return ExchangeRecord(
        request_id=request.id,
        method=request.method,
        path=request.path,
        client=request.client,
        route="-" if route is None else route.name,
        cluster=copy.shadow.mirror.cluster,
        endpoint=copy.shadow.endpoint.id,
        model=request.model or "-",
        stream=request.stream,
        status=copy.status,
        flag="-",
        reason=ending,
        attempts=1,
        started_at=copy.started_wall,
        duration=now - copy.began_at,
        queued=0.0,
        first_byte=None,
        ttft=None,
        bytes_in=request.body_bytes,
        bytes_out=received,
        chunks=0,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        cached_tokens=tokens[2],
        tenant=request.tenant,
        shadow=True,
    )


def refusal(
    visit: "Visit",
    head: "RequestHead",
    error: RouterError,
    wall: float,
    duration: float = 0.0,
    bytes_in: int = 0,
) -> ExchangeRecord:
    """The record of a request that was refused before it was routed.

    Args:
        wall: when it came, Unix seconds.
    """
    reason = error.reason if isinstance(error, Unauthorized) else error.code or error.param
    given = head.shape.traceparent
    return ExchangeRecord(
        request_id=head.request_id.decode("ascii"),
        method=head.verb,
        path=head.path,
        client=visit.client,
        route="-",
        cluster="-",
        endpoint="-",
        model="-",
        stream=False,
        status=error.status,
        flag=error.flag,
        reason=reason or "malformed",
        attempts=0,
        started_at=wall,
        duration=duration,
        queued=0.0,
        first_byte=None,
        ttft=None,
        bytes_in=bytes_in,
        bytes_out=0,
        chunks=0,
        tenant=visit.identity.tenant,
        trace_id=trace_id(given) if given else None,
        protocol="HTTP/1.1" if head.http11 else "HTTP/1.0",
    )
