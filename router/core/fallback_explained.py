"""What ``explain`` says of a route's fallbacks: the chain, and how far the request gets."""

from router.core.exchange import Exchange
from router.core.explanation import LinkSeen


def links_seen(exchange: Exchange) -> tuple[LinkSeen, ...]:
    """Call it when the exchange has been followed to its end."""
    if exchange.route is None:
        return ()
    why = [] if exchange.detour is None else exchange.detour.why
    return tuple(
        LinkSeen(
            cluster=link.cluster,
            subset=dict(link.subset),
            model=link.model,
            taken=_words(*why[number]) if number < len(why) else None,
        )
        for number, link in enumerate(exchange.route.fallbacks)
    )


def _words(cluster: str, reason: str) -> str:
    return f"{cluster} failed" if reason == "failed" else f"{cluster} is {reason}"
