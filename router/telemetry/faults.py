"""What a worker tells of the faults that its routes inject."""

from collections.abc import Mapping

from router.core.fault import FaultState
from router.telemetry.totals import Labels, Totals


def add_faults(totals: Totals, states: Mapping[str, FaultState]) -> None:
    """Add the counts of these routes."""
    injected: dict[Labels, float] = {}
    overflow: dict[Labels, float] = {}
    active: dict[Labels, float] = {}
    for route, state in states.items():
        injected.update(((route, kind), count) for kind, count in state.injected.items())
        overflow[route,] = state.overflow
        active[route,] = state.active
    totals.counters["faults_injected_total"] = injected
    totals.counters["faults_overflow_total"] = overflow
    totals.gauges["faults_active"] = active
