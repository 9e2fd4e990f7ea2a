"""Lint rules about retries."""

from collections.abc import Iterator

from router.config.findings import Problem
from router.config.lint_routes import endpoints_of
from router.config.retry import NEVER_OVER_HTTP1
from router.config.schema import Config


def cause_of_another_protocol(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for number, cause in enumerate(route.retry.on if route.retry is not None else ()):
            if cause in NEVER_OVER_HTTP1:
                yield Problem(
                    ("routes", index, "retry", "on", number),
                    f"{cause} never happens: engines are spoken to over HTTP/1.1",
                )


def wait_beyond_total(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        waits = route.retry.back_off if route.retry is not None else None
        if waits is not None and 0 < route.timeouts.total <= waits.base_interval:
            yield Problem(
                ("routes", index, "retry", "back_off", "base_interval"),
                f"a wait of up to {waits.base_interval} before a retry may use up the total of "
                f"{route.timeouts.total}",
            )


def hedge_with_one_endpoint(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        pools = [endpoints_of(arm, config) for arm in route.to]
        if route.hedge is not None and all(pool is not None and len(pool) == 1 for pool in pools):
            yield Problem(
                ("routes", index, "hedge"),
                f"route {route.name!r} hedges, but has one endpoint to ask",
            )


def hedge_too_late(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        hedge, retry = route.hedge, route.retry
        per_try = float(retry.per_try_timeout) if retry is not None else 0.0
        limit = per_try or float(route.timeouts.first_byte)
        if hedge is not None and hedge.after is not None and 0 < limit <= hedge.after:
            yield Problem(
                ("routes", index, "hedge", "after"),
                f"an attempt is over after {limit:g}s without a first byte, before it counts as "
                "slow",
            )
