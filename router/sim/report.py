"""What a study came to, as plain data: the same for the same seeds, to the byte."""

from collections.abc import Sequence
from typing import Any

import msgspec

from router.sim.measures import Measures
from router.sim.study import Result, Study
from router.sim.summary import summarize


def report(study: Study, runs: Sequence[Result]) -> dict[str, Any]:
    """Of all runs of a study, in order of its scenarios."""
    by_policy: dict[str, list[Sequence[Measures]]] = {}
    for scenario, run in zip(study.scenarios, runs, strict=True):
        by_policy.setdefault(scenario.policy.name, []).append(run.phases)
    first, traffic = study.scenarios[0], study.traffic
    return {
        "trace": traffic.trace.name,
        "rate": traffic.rate,
        "duration": traffic.duration,
        "replicas": len(first.replicas),
        "routers": first.routers,
        "seeds": list(dict.fromkeys(scenario.seed for scenario in study.scenarios)),
        "policies": [
            {"policy": policy, "phases": _phases(study, found)}
            for policy, found in by_policy.items()
        ],
    }


def _phases(study: Study, runs: Sequence[Sequence[Measures]]) -> list[dict[str, Any]]:
    return [
        {
            "phase": phase.name,
            "from": phase.begin,
            "to": phase.end,
            "measures": msgspec.to_builtins(summarize(found)),
            "runs": msgspec.to_builtins(found),
        }
        for phase, found in zip(study.phases(), zip(*runs, strict=True), strict=True)
    ]
