"""Each scorer by a table: what is known of three endpoints, and the scores that it makes of it."""

import importlib
import pkgutil
import random
from typing import Any

import pytest

from router.core import filters, scorers
from router.core.duration import Duration, Interval
from router.core.filters.prefix_affinity import PrefixAffinity
from router.core.host import HostState, Latency
from router.core.load import Adapters, LoadReport
from router.core.memory import ClusterMemory
from router.core.prefix.placements import Placements
from router.core.scorers.base import Remembering, ScorerSpec
from router.core.scorers.in_flight import InFlight
from router.core.scorers.kv_utilization import KvUtilization
from router.core.scorers.latency import LatencyScorer
from router.core.scorers.lora_affinity import LoraAffinity
from router.core.scorers.prefix_match import PrefixMatch
from router.core.scorers.queue_depth import QueueDepth
from router.core.scorers.running import Running
from router.core.scorers.session import SessionScorer
from router.core.scorers.token_load import TokenLoad
from tests.core.rivals import prompt
from tests.core.world import hosts, request

RNG = random.Random(1)


def report(**fields: Any) -> LoadReport:
    return LoadReport(**({"at": 0.0, "running": 0, "waiting": 0} | fields))


def scored(spec: ScorerSpec, ring: tuple[HostState, ...], **asked: Any) -> Any:
    return spec.build(ClusterMemory.alone()).score(request(**asked), ring, 0.0)


@pytest.mark.parametrize("package", [scorers, filters], ids=["scorers", "filters"])
def test_every_file_is_in_its_registry(package: Any) -> None:
    found = {
        value
        for module in pkgutil.iter_modules(package.__path__)
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values()
        if isinstance(getattr(value, "Spec", None), type)
    }
    assert found == set(package.REGISTRY)


RANGES = [
    # what is known of each, None for an endpoint without a report, and its scores
    ((0, 5, 10), [1.0, 0.5, 0.0]),
    ((7, 7, 7), [1.0, 1.0, 1.0]),
    ((0, 1, 1), [1.0, 0.0, 0.0]),  # one request is as good as a hundred
    ((0, None, 10), [1.0, 0.5, 0.0]),
    ((3, 3, None), [1.0, 1.0, 1.0]),
    ((4, None, None), [1.0, 1.0, 1.0]),
    ((None, None, None), None),
]


@pytest.mark.parametrize(("figures", "expected"), RANGES)
@pytest.mark.parametrize(
    ("spec", "field"), [(QueueDepth.Spec(), "waiting"), (Running.Spec(), "running")]
)
def test_the_fewest_requests_score_best(
    spec: ScorerSpec, field: str, figures: tuple[int | None, ...], expected: list[float] | None
) -> None:
    ring = hosts(1, 1, 1)
    for host, figure in zip(ring, figures, strict=True):
        host.load = None if figure is None else report(**{field: figure})
    assert scored(spec, ring) == expected
    assert spec.reads == field


def test_a_queue_counts_by_weight() -> None:
    ring = hosts(4, 2, 1)
    for host in ring:
        host.load = report(waiting=8)
    assert scored(QueueDepth.Spec(), ring) == pytest.approx([1.0, 2 / 3, 0.0])


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ((0.0, 0.25, 1.0), [1.0, 0.75, 0.0]),
        ((0.5, None, 0.25), [0.5, 0.625, 0.75]),
        ((None, None, None), None),
    ],
)
def test_a_free_cache(usages: tuple[float | None, ...], expected: list[float] | None) -> None:
    ring = hosts(1, 1, 1)
    for host, usage in zip(ring, usages, strict=True):
        host.load = report(kv_usage=usage)
    assert scored(KvUtilization.Spec(), ring) == expected


@pytest.mark.parametrize(
    ("fields", "counts", "expected"),
    [
        ({}, (0, 0, 0), [1, 1, 1]),
        ({}, (0, 5, 10), [1, 0.5, 0]),
        ({"idle_threshold": 5}, (0, 5, 10), [1, 1, 0]),
        ({"max_busy_score": 0.5}, (0, 5, 10), [1, 0.25, 0]),
    ],
)
def test_in_flight(fields: dict[str, Any], counts: tuple[int, ...], expected: list[float]) -> None:
    ring = hosts(1, 1, 1)
    for host, count in zip(ring, counts, strict=True):
        host.in_flight = count
    assert scored(InFlight.Spec(**fields), ring) == expected


def test_in_flight_counts_by_weight() -> None:
    ring = hosts(4, 1, 1)
    for host, count in zip(ring, (4, 2, 1), strict=True):
        host.in_flight = count
    assert scored(InFlight.Spec(), ring) == [0.5, 0.0, 0.5]


def adapters(running: str, waiting: str = "", slots: int = 2) -> LoadReport:
    return report(adapters=Adapters(frozenset(running.split()), frozenset(waiting.split()), slots))


def test_adapters() -> None:
    """Loaded, room for one more, waiting where there is no room, no room, and nothing known."""
    ring = hosts(1, 1, 1, 1, 1)
    ring[0].load = adapters("sql law")
    ring[1].load = adapters("law")
    ring[2].load = adapters("law tax", "sql")
    ring[3].load = adapters("law tax")
    ring[4].load = report()
    spec = LoraAffinity.Spec()
    assert scored(spec, ring, model="sql") == [1.0, 0.8, 0.6, 0.0, pytest.approx(0.6)]
    assert scored(spec, ring, model=None) is None
    assert scored(spec, ring[4:], model="sql") is None


def test_a_session_that_was_seen() -> None:
    ring, memory = hosts(1, 1, 1), ClusterMemory.alone()
    scorer = SessionScorer.Spec().build(memory)
    assert isinstance(scorer, Remembering)
    asked = request(headers=((b"x-session-token", b"s1"),))
    assert scorer.score(asked, ring, 0.0) is None
    scorer.chosen(asked, ring[1])
    assert scorer.score(asked, ring, 0.0) == [0.0, 1.0, 0.0]
    scorer.chosen(request(), ring[2])  # no session: nothing to remember
    assert scorer.score(request(), ring, 0.0) is None
    assert scorer.score(asked, (ring[0], ring[2]), 0.0) == [0.0, 0.0]


def test_latency_times_load() -> None:
    ring = hosts(1, 1, 1)
    spec = LatencyScorer.Spec(initial=Interval(0.1))
    scorer = spec.build(ClusterMemory.alone())
    assert scorer.score(request(), ring, 0.0) == [1.0, 1.0, 1.0]
    for host, seconds in zip(ring, (0.2, 0.2, 0.6), strict=True):
        assert isinstance(host.latency, Latency)
        host.latency.observe(seconds, 1.0)
    ring[1].in_flight = 1
    assert scorer.score(request(), ring, 1.0) == pytest.approx([1.0, 0.5, 0.0])


class TestPrefixMatch:
    def test_the_share_of_the_prompt_that_was_sent_before(self) -> None:
        ring, memory = hosts(1, 1, 1), ClusterMemory.alone()
        scorer = PrefixMatch.Spec().build(memory)
        placements = memory.keep(Placements)
        assert scorer.score(prompt(1, 10), ring, 0.0) is None
        placements.begin(prompt(1, 10), ring[0], 0.0)
        placements.begin(prompt(1, 4), ring[1], 0.0)
        assert scorer.score(prompt(1, 10), ring, 0.0) == [1.0, 0.4, 0.0]
        assert scorer.score(prompt(1, 11.5), ring, 0.0) == [1.0, 0.4, 0.0]
        assert scorer.score(prompt(1, 20), ring, 0.0) == [0.5, 0.2, 0.0]
        assert scorer.score(prompt(1, 0.5), ring, 0.0) is None

    def test_prompts_look_the_same_beyond_what_is_looked_at(self) -> None:
        ring, memory = hosts(1, 1), ClusterMemory.alone()
        scorer = PrefixMatch.Spec(max_prefix_tokens=4 * 128).build(memory)
        memory.keep(Placements).begin(prompt(1, 40, shared=4), ring[0], 0.0)
        assert scorer.score(prompt(2, 40, shared=4), ring, 0.0) == [1.0, 0.0]
        assert memory.keep(Placements).index.entries == 4, "nor is more remembered"

    @pytest.mark.parametrize(("tuned", "held"), [(True, 16), (False, 32)])
    def test_an_engines_own_word_on_its_cache(self, tuned: bool, held: int) -> None:
        ring, memory = hosts(1, 1), ClusterMemory.alone()
        PrefixMatch.Spec(lru_capacity=32 * 128, auto_tune=tuned).build(memory)
        placements = memory.keep(Placements)
        ring[0].load = report(capacity=16 * 128)
        for seed in range(8):
            for host in ring:
                placements.begin(prompt(seed, 8), host, 0.0)
        assert [placements.index.blocks(host.id) for host in ring] == [held, 32]


def test_token_load_counts_what_is_not_computed_yet_and_what_would_be_added() -> None:
    ring, memory = hosts(1, 1, 2), ClusterMemory.alone()
    scorer = TokenLoad.Spec(queue_threshold_tokens=128 * 20).build(memory)
    placements = memory.keep(Placements)
    assert scorer.score(prompt(1, 5), ring, 0.0) == [0.75, 0.75, 0.75]
    work = placements.begin(prompt(1, 10), ring[0], 0.0)
    placements.begin(prompt(2, 10), ring[2], 0.0)
    # Ten blocks ahead and ten that it holds; none and all twenty; ten at twice the weight.
    asked = prompt(1, 20)
    shares = [4 / 3 * blocks for blocks in (10, 0, 10 / 2)]
    added = [10, 20, 20]
    expected = [max(0.0, 1 - (a + b) / 20) for a, b in zip(shares, added, strict=True)]
    assert scorer.score(asked, ring, 0.0) == pytest.approx(expected)
    work.first_token(1.0, True)
    assert scorer.score(asked, ring, 0.0) == pytest.approx([0.5, *expected[1:]])


class TestPrefixAffinity:
    def kept(self, spec: PrefixAffinity.Spec, load: float = 0.0, blocks: float = 10) -> Any:
        """Of three endpoints the first holds 8 blocks and has so many others ahead."""
        ring, memory = hosts(1, 1, 1), ClusterMemory.alone()
        gate = spec.build(memory)
        placements = memory.keep(Placements)
        placements.begin(prompt(1, 8), ring[0], 0.0).first_token(0.0, True)
        if load:
            placements.begin(prompt(2, load), ring[0], 0.0)
        kept = gate.keep(prompt(1, blocks), ring, RNG)
        return "all" if kept is ring else [host.slot for host in kept]

    def test_only_those_that_hold_enough(self) -> None:
        assert self.kept(PrefixAffinity.Spec()) == [0]
        assert self.kept(PrefixAffinity.Spec(threshold=0.81)) == "all"
        assert self.kept(PrefixAffinity.Spec(), blocks=12) == "all"
        assert self.kept(PrefixAffinity.Spec(threshold=1.0), blocks=8) == [0]

    def test_until_the_wait_there_is_longer_than_the_penalty(self) -> None:
        spec = PrefixAffinity.Spec(max_penalty=Duration(2), prefill_rate=64.0)
        assert self.kept(spec, load=1) == [0]
        assert self.kept(spec, load=1.25) == "all"
        never = PrefixAffinity.Spec(max_penalty=Duration(0), prefill_rate=64.0)
        assert self.kept(never, load=1000) == [0]

    def test_a_share_of_requests_explores(self) -> None:
        spec = PrefixAffinity.Spec(exploration=0.1)
        free = sum(self.kept(spec) == "all" for _ in range(600))
        assert 30 < free < 95

    def test_where_everybody_holds_it_nobody_is_left_out(self) -> None:
        ring, memory = hosts(1, 1), ClusterMemory.alone()
        gate = PrefixAffinity.Spec().build(memory)
        for host in ring:
            memory.keep(Placements).begin(prompt(1, 8), host, 0.0)
        assert gate.keep(prompt(1, 8), ring, RNG) is ring
        assert gate.keep(request(), ring, RNG) is ring
