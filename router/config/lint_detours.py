"""Lint rules about what routes do beside passing requests on: faults."""

from collections.abc import Iterator

from router.config.findings import Problem
from router.config.schema import Config


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
