"""Lint rules about retries."""

from collections.abc import Iterator

from router.config.findings import Problem
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
