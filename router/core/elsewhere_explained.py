"""What ``explain`` says of where else a request goes: along its fallbacks, and to mirrors."""

from router.core.exchange import Exchange
from router.core.explanation import LinkSeen, MirrorSeen


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


def mirrors_seen(exchange: Exchange) -> tuple[MirrorSeen, ...]:
    """The route's mirrors; a dry run draws for none of them."""
    if exchange.route is None:
        return ()
    return tuple(
        MirrorSeen(
            cluster=mirror.cluster,
            subset=dict(mirror.subset),
            percent=mirror.percent,
            cost=mirror.cost(exchange.request),
            per_minute=None if mirror.tokens is None else mirror.tokens.capacity,
        )
        for mirror in exchange.route.mirrors
    )
