"""The fewest replicas of one kind that keep a promise, found by simulating them.

The promise: in every seed's run, at least so large a share of the requests has its first token in
time (and its other tokens, if that is asked). More replicas are taken never to do worse: counts are
doubled until one does, and then halved in between. A count is given up with the first seed that
fails. With spares, so many replicas die as the measured time begins and stay dead; answers that
were under way there are lost, and count as late.

A search is a generator: it yields the run that it wants to know about, and is sent its result, so
that several of them share the processors (``router.sim.conduct``).
"""

from collections.abc import Generator
from math import inf, isnan
from typing import Final

import msgspec

from router.sim.catalogue import Offer
from router.sim.incident import Fail
from router.sim.measures import WARM_UP, Goal
from router.sim.scenario import Policy, Scenario
from router.sim.study import Result, Run, Study, Traffic

HOURS: Final = 730
"""In a month."""

STEP: Final = 0.1
MOST_STEPS: Final = 10
"""Headroom is looked for in tenths of the load, up to twice the load."""

HELPS: Final = 0.002
"""Share of the requests by which twice the replicas must do better, where most are in time already:
else no number of them will do."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be held, and how it is judged. Seconds.

    Attributes:
        ttft: to the first token.
        itl: between the others, mean of each answer.
        attainment: share of the requests for which both hold.
        spare: replicas that may be lost.
        most: replicas to try at most.
    """

    ttft: float
    itl: float = inf
    attainment: float
    seeds: int
    spare: int
    most: int

    @property
    def goal(self) -> Goal:
        return Goal(ttft=self.ttft, colds=0.0, tpot=self.itl)


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, of which policy. ``longest``: tokens of a prompt and its answer, at most."""

    traffic: Traffic
    policy: Policy
    block: int
    block_bytes: int
    longest: int


class Verdict(msgspec.Struct, frozen=True):
    """On a count. ``results`` are of the seeds up to the first that failed."""

    replicas: int
    holds: bool
    results: tuple[Result, ...]

    @property
    def attained(self) -> float:
        """Of the worst seed."""
        shares = [result.phases[0].slo for result in self.results]
        return min(0.0 if isnan(share) else share for share in shares)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Of one search: ``best`` keeps the promise, or ``reason`` says why nothing does.

    Attributes:
        fewer: the largest count known to fail, None where one replica does.
        headroom: how much more of the load it bears, in tenths; at least that, from 1.0 on.
        tried: counts that were simulated.
    """

    best: Verdict | None = None
    reason: str = ""
    fewer: Verdict | None = None
    headroom: float = 0.0
    tried: tuple[int, ...] = ()


Search = Generator[Run, Result, Answer]


def search(offer: Offer, demand: Demand, promise: Promise) -> Search:
    """The fewest replicas of this kind."""
    if demand.longest > offer.profile.kv_tokens:
        return Answer(
            reason=f"a request of {demand.longest} tokens has no room in a cache of "
            f"{offer.profile.kv_tokens}"
        )
    known: dict[int, Verdict] = {}
    count, failed = promise.spare + 1, None
    while not (verdict := (yield from _judge(offer, demand, promise, count, 1.0))).holds:
        known[count] = verdict
        if failed is not None and not _helps(failed, verdict):
            return Answer(
                reason=f"more replicas do not help: {failed.attained:.2%} in time with "
                f"{failed.replicas}, {verdict.attained:.2%} with {count}",
                tried=tuple(sorted(known)),
            )
        if count >= promise.most:
            return Answer(
                reason=f"{verdict.attained:.2%} in time with {count} replicas, the most to try",
                tried=tuple(sorted(known)),
            )
        failed, count = verdict, min(2 * count, promise.most)
    best = known[count] = verdict
    low = promise.spare if failed is None else failed.replicas
    while best.replicas - low > 1:
        middle = (low + best.replicas) // 2
        verdict = known[middle] = yield from _judge(offer, demand, promise, middle, 1.0)
        if verdict.holds:
            best = verdict
        else:
            low = middle
    headroom = yield from _headroom(offer, demand, promise, best.replicas)
    return Answer(best=best, fewer=known.get(low), headroom=headroom, tried=tuple(sorted(known)))


def _helps(fewer: Verdict, more: Verdict) -> bool:
    """Whether twice the replicas came further: by seeds, or in the one where both failed."""
    if len(more.results) != len(fewer.results):
        return len(more.results) > len(fewer.results)
    return more.attained < 0.5 or more.attained > fewer.attained + HELPS


def _headroom(
    offer: Offer, demand: Demand, promise: Promise, replicas: int
) -> Generator[Run, Result, float]:
    """Of the load."""
    holds, fails = 0, MOST_STEPS + 1
    while fails - holds > 1:
        middle = (holds + fails) // 2
        verdict = yield from _judge(offer, demand, promise, replicas, 1 + STEP * middle)
        if verdict.holds:
            holds = middle
        else:
            fails = middle
    return STEP * holds


def _judge(
    offer: Offer, demand: Demand, promise: Promise, replicas: int, load: float
) -> Generator[Run, Result, Verdict]:
    study = studied(offer, demand, promise, replicas, load)
    found: list[Result] = []
    for index in range(promise.seeds):
        found.append((yield (study, index)))
        verdict = Verdict(replicas, False, tuple(found))
        if verdict.attained < promise.attainment:
            return verdict
    return Verdict(replicas, True, tuple(found))


def studied(
    offer: Offer, demand: Demand, promise: Promise, replicas: int, load: float = 1.0
) -> Study:
    """The runs on which a count is judged."""
    traffic = msgspec.structs.replace(demand.traffic, rate=demand.traffic.rate * load)
    begin = WARM_UP * traffic.duration
    template = Scenario(
        policy=demand.policy,
        replicas=(offer.profile,) * replicas,
        block=demand.block,
        block_bytes=demand.block_bytes,
        seed=0,
        # They come back when nobody comes any more.
        incidents=tuple(Fail(begin, traffic.duration, index) for index in range(promise.spare)),
    )
    scenarios = tuple(
        msgspec.structs.replace(template, seed=seed) for seed in range(1, promise.seeds + 1)
    )
    return Study(traffic=traffic, base=offer.profile, scenarios=scenarios, goal=promise.goal)
