"""What the routing benchmark runs, and what is expected of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple

from router.sim.measures import Measures

PREDICTED = "predicted_ttft"
LATE = "predicted_ttft:hold_above=150ms"
ORACLE = "oracle"
ROUND_ROBIN = "round_robin"
LEAST = "least_request:selection=full_scan"
P2C = "least_request"
DYNAMO = "dynamo_cost"
SGLANG = "cache_aware"
KUBEAI = "chwbl"
AFFINITY = "prefix_hash"


class Case(NamedTuple):
    """One policy under one load. ``load`` in per cent of what the oracle bears; eight replicas.

    ``fails``: one of them dies at 540 s and is back 120 s later. ``routers``: side by side, each
    hears what others did after ``GOSSIP`` seconds.
    """

    trace: str
    load: int
    policy: str
    fails: bool = False
    routers: int = 1


GOSSIP = 0.1

Results = Mapping[Case, Sequence[Sequence[Measures]]]
"""Of each case, of each seed, of each phase."""

SEEDS = 3
MANY_SEEDS = 24
"""For the tail of round robin, which is past what it can bear: where its lines have grown to by the
end is one throw of the dice for each seed, and three of them decide by chance."""

ALL, AFTER = 0, 2
"""Phases: all but the warm-up; the minute after the failure."""


def mean(results: Results, case: Case, measure: str, phase: int = ALL, seeds: int = SEEDS) -> float:
    """Over the first so many seeds."""
    return fmean(getattr(run[phase], measure) for run in results[case][:seeds])


class Target(NamedTuple):
    """``bound`` is the most that ``value`` may be, or with ``least`` the least. ``seeds``: that
    its cases are run with."""

    goal: str
    bound: float
    value: Callable[[Results], float]
    cases: tuple[Case, ...]
    least: bool = False
    seeds: int = SEEDS

    def met(self, results: Results) -> bool:
        value = self.value(results)
        return value >= self.bound if self.least else value <= self.bound


def ratio(
    goal: str,
    bound: float,
    measure: str,
    case: Case,
    to: Case,
    *,
    least: bool = False,
    seeds: int = SEEDS,
) -> Target:
    """Of a measure of one case to that of another."""

    def value(results: Results) -> float:
        of, by = (mean(results, one, measure, seeds=seeds) for one in (case, to))
        return of / by

    return Target(goal, bound, value, (case, to), least, seeds)


TTFT = ("ttft_mean", "ttft_p99")

FACTORS = {
    ("conv", ROUND_ROBIN): (8.0, 5.0),
    ("tool", ROUND_ROBIN): (15.0, 8.0),
    ("conv", LEAST): (2.4, 1.8),
    ("tool", LEAST): (2.7, 2.3),
}
"""How many times lower than these our mean and 99th percentile are to be."""


def _targets() -> tuple[Target, ...]:
    found = []
    for trace in ("conv", "tool"):
        ours, bound = Case(trace, 85, PREDICTED), Case(trace, 85, ORACLE)
        found += [
            ratio(f"{trace} 85 %: mean TTFT / oracle's", 1.05, "ttft_mean", ours, bound),
            ratio(f"{trace} 85 %: p99 TTFT / oracle's", 1.08, "ttft_p99", ours, bound),
            ratio(f"{trace} 85 %: hit rate / oracle's", 0.94, "hit_rate", ours, bound, least=True),
        ]
        for rival, name in ((ROUND_ROBIN, "round robin's"), (LEAST, "least request's")):
            other, factors = Case(trace, 85, rival), FACTORS[trace, rival]
            for measure, word, factor in zip(TTFT, ("mean", "p99"), factors, strict=True):
                goal = f"{trace} 85 %: {name} {word} TTFT / ours"
                seeds = SEEDS
                if rival == ROUND_ROBIN and word == "p99":
                    goal, seeds = f"{goal}, {MANY_SEEDS} seeds", MANY_SEEDS
                found.append(ratio(goal, factor, measure, other, ours, least=True, seeds=seeds))
        dynamo, goal = Case(trace, 85, DYNAMO), f"{trace} 85 %: mean TTFT / that of Dynamo's cost"
        found.append(ratio(goal, 0.8, "ttft_mean", ours, dynamo))
        late = Case(trace, 95, LATE)
        goal = f"{trace} 95 %: in time with late binding"
        found.append(
            Target(goal, 0.96, partial(mean, case=late, measure="slo"), (late,), least=True)
        )
        late, bound = Case(trace, 110, LATE), Case(trace, 110, ORACLE)
        goal = f"{trace} 110 %: mean TTFT with late binding / the early-binding oracle's"
        found.append(ratio(goal, 0.7, "ttft_mean", late, bound))
        one, two = Case(trace, 80, PREDICTED), Case(trace, 80, PREDICTED, routers=2)
        goal = f"{trace} 80 %: mean TTFT of two routers that hear each other 100 ms late / of one"
        found.append(ratio(goal, 1.15, "ttft_mean", two, one))
    failing = Case("conv", 70, PREDICTED, fails=True)
    found.append(
        Target(
            "conv 70 %: in time in the minute after one of eight fails",
            0.96,
            partial(mean, case=failing, measure="slo", phase=AFTER),
            (failing,),
            least=True,
        )
    )
    return tuple(found)


TARGETS = _targets()

OTHERS = tuple(
    Case(trace, load, policy)
    for trace in ("conv", "tool")
    for load, policies in (
        (85, (LATE, P2C, SGLANG, KUBEAI, AFFINITY)),
        (95, (PREDICTED, LATE, ORACLE, LEAST, DYNAMO)),
        (110, (PREDICTED, LATE, ORACLE)),
        (115, (PREDICTED, LATE, ORACLE)),
    )
    for policy in policies
)
"""Run for the tables, without a target."""


def seeds_of(case: Case) -> range:
    """That some target or table needs of it."""
    return range(1, 1 + max([SEEDS, *(one.seeds for one in TARGETS if case in one.cases)]))


def cases() -> tuple[Case, ...]:
    """All of them, each once, in the order of the tables."""
    wanted = {case for target in TARGETS for case in target.cases} | set(OTHERS)
    order = (PREDICTED, LATE, ORACLE, DYNAMO, SGLANG, KUBEAI, AFFINITY, LEAST, P2C, ROUND_ROBIN)
    return tuple(
        sorted(wanted, key=lambda c: (c.trace, c.load, c.fails, c.routers, order.index(c.policy)))
    )
