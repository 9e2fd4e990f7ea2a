"""The exchanges under way, as an operator is told of them."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from router.control.messages import ForecastQuery
from router.core.director import Director
from router.core.exchange import Exchange
from router.core.forecast.forecast import Forecast
from router.core.forecast.seen import ForecastSeen, see

if TYPE_CHECKING:
    from router.proxy.server import ProxyServer

Row = dict[str, str | int | float | None]


def requests(server: "ProxyServer", limit: int, endpoint: str | None = None) -> list[Row]:
    """The oldest ``limit`` of them; ``age`` in seconds.

    Streams wait while this is made, 2 us for each, so it is made of no more than are shown.

    Args:
        endpoint: only those whose attempt is under way there.
    """
    now = server.clock()
    return [_row(server, exchange, now) for exchange in islice(_found(server, endpoint), limit)]


def forecasts(director: Director, query: ForecastQuery, now: float) -> dict[str, ForecastSeen]:
    """What is predicted of a prompt, by cluster."""
    found: dict[str, ForecastSeen] = {}
    for name in query.clusters:
        if name in director.snapshot.clusters:
            forecast = director.fleet.memory(name).kept.get(Forecast)
            if isinstance(forecast, Forecast):
                found[name] = see(
                    forecast, query.checkpoints, query.prompt_bytes, query.conversation, now
                )
    return found


def cancel_at(server: "ProxyServer", endpoint: str, reason: str) -> int:
    """End what is under way at an endpoint with an error; how many these were."""
    found = list(_found(server, endpoint))
    for exchange in found:
        server.relays[exchange.serial].cancel(reason)
    return len(found)


def _found(server: "ProxyServer", endpoint: str | None) -> Iterator[Exchange]:
    for exchange in server.director.active.values():
        if endpoint is None or (exchange.lease is not None and exchange.lease.host.id == endpoint):
            yield exchange


def _row(server: "ProxyServer", exchange: Exchange, now: float) -> Row:
    request = exchange.request
    return {
        "serial": exchange.serial,
        "id": request.id,
        "model": request.model,
        "path": request.path,
        "client": request.client,
        "state": exchange.state.name.lower(),
        "endpoint": exchange.tried[-1] if exchange.tried else None,
        "attempt": exchange.attempt,
        "age": now - exchange.started_at,
        "tokens_left": _tokens_left(server, exchange),
    }


def _tokens_left(server: "ProxyServer", exchange: Exchange) -> int | None:
    """How many may come yet, None if the request set no limit.

    What has come is counted in reads, of which a streaming engine sends one for each token or
    for a few, so this is rather too many than too few.
    """
    limit = exchange.request.max_tokens
    if limit is None:
        return None
    relay = server.relays.get(exchange.serial)
    seen = relay.chunks if relay is not None and exchange.request.stream else 0
    return max(0, limit - seen)
