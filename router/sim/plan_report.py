"""What a plan came to, as plain data: what each GPU needs, what that costs, which is cheapest."""

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any

import msgspec

from router.sim.catalogue import Offer
from router.sim.measures import WARM_UP
from router.sim.sizing import HOURS, Answer, Demand, Promise, Verdict
from router.sim.summary import summarize


def report(
    name: str,
    demand: Demand,
    promise: Promise,
    answers: Mapping[str, tuple[Offer, Answer]],
    unfit: Mapping[str, str],
) -> dict[str, Any]:
    """All answers, the cheapest first.

    Args:
        name: of the traffic.
        answers: by GPU.
        unfit: GPUs that were not simulated, and why.
    """
    options = [
        _option(offer, answer, answer.best, demand)
        for offer, answer in answers.values()
        if answer.best is not None
    ]
    options.sort(key=lambda option: (option["usd_per_month"], option["gpu"]))
    return {
        "traffic": name,
        "rate": demand.traffic.rate,
        "duration": demand.traffic.duration,
        "policy": demand.policy.name,
        "promise": {
            "ttft": promise.ttft,
            "itl": None if isinf(promise.itl) else promise.itl,
            "attainment": promise.attainment,
            "seeds": promise.seeds,
            "spare": promise.spare,
        },
        "options": options,
        "impossible": [{"gpu": gpu, "reason": reason, "tried": []} for gpu, reason in unfit.items()]
        + [
            {"gpu": gpu, "reason": answer.reason, "tried": list(answer.tried)}
            for gpu, (_, answer) in answers.items()
            if answer.best is None
        ],
    }


def _option(offer: Offer, answer: Answer, best: Verdict, demand: Demand) -> dict[str, Any]:
    runs = [result.phases[0] for result in best.results]
    window = (1 - WARM_UP) * demand.traffic.duration
    tokens = _mean([run.prompt_tokens + run.answer_tokens for run in runs]) / window
    per_hour = best.replicas * offer.price.usd_per_hour
    return {
        "gpu": offer.gpu,
        "replicas": best.replicas,
        "attained": best.attained,
        "attained_with_one_fewer": None if answer.fewer is None else answer.fewer.attained,
        "headroom": answer.headroom,
        "busy": _mean([result.busy for result in best.results]),
        "prefilling": _mean([result.prefilling for result in best.results]),
        "tokens_per_second": tokens,
        "usd_per_month": per_hour * HOURS,
        "usd_per_million_tokens": per_hour / 3600 / tokens * 1e6 if tokens else None,
        "price": msgspec.to_builtins(offer.price),
        "derived": list(offer.derived),
        "source": offer.source,
        "profile": msgspec.to_builtins(offer.profile),
        "tried": list(answer.tried),
        "measures": msgspec.to_builtins(summarize(runs)),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
