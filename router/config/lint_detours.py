"""Lint rules about what routes do beside passing requests on: faults, fallbacks and mirrors."""

from collections.abc import Iterator

from router.config.findings import Problem
from router.config.schema import Config

SMALL_SHARE = 10.0
"""Percent of a route's requests that a mirror may get without a word."""


def fault_for_everybody(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        fault = route.fault
        if fault is None or fault.headers:
            continue
        if fault.abort is not None and fault.abort.percent >= 100:
            yield Problem(
                ("routes", index, "fault", "abort"),
                f"route {route.name!r} answers every request with {fault.abort.status} on purpose",
            )
        elif fault.cut is not None and fault.cut.percent >= 100:
            yield Problem(
                ("routes", index, "fault", "cut"),
                f"route {route.name!r} cuts every stream of more than {fault.cut.after} events on "
                "purpose",
            )


def fallback_to_the_same(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        asked: list[tuple[str, dict[str, str], str | None]] = []
        if len(route.to) == 1:
            asked.append((route.to[0].cluster, route.to[0].subset, None))
        for number, link in enumerate(route.fallbacks):
            here = (link.cluster, link.subset, link.model)
            if here in asked:
                yield Problem(
                    ("routes", index, "fallbacks", number),
                    f"route {route.name!r} has asked cluster {link.cluster!r} already when it "
                    "gets here",
                )
            asked.append(here)


def mirror_without_a_bound(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for number, mirror in enumerate(route.mirror):
            if mirror.max_tokens_per_minute is None and mirror.percent > SMALL_SHARE:
                yield Problem(
                    ("routes", index, "mirror", number),
                    f"cluster {mirror.cluster!r} computes {mirror.percent} of the answers of "
                    f"route {route.name!r} for nobody, with no bound on their tokens",
                )
