"""What a study came to, as plain data: the same for the same seeds, to the byte."""

from collections.abc import Sequence
from typing import Any

import msgspec

from router.sim.measures import WARM_UP, Measures
from router.sim.study import Study
from router.sim.summary import summarize


def report(study: Study, runs: Sequence[Measures]) -> dict[str, Any]:
    """Of all runs of a study, in order of its scenarios."""
    by_policy: dict[str, list[Measures]] = {}
    for scenario, run in zip(study.scenarios, runs, strict=True):
        by_policy.setdefault(scenario.policy.name, []).append(run)
    first = study.scenarios[0]
    return {
        "trace": study.trace.name,
        "rate": study.rate,
        "duration": study.duration,
        "measured_from": WARM_UP * study.duration,
        "replicas": len(first.replicas),
        "routers": first.routers,
        "seeds": list(dict.fromkeys(scenario.seed for scenario in study.scenarios)),
        "policies": [
            {
                "policy": policy,
                "measures": msgspec.to_builtins(summarize(of_policy)),
                "runs": msgspec.to_builtins(of_policy),
            }
            for policy, of_policy in by_policy.items()
        ],
    }
