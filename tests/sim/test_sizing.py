"""The search for the fewest replicas, told the results of runs that nobody simulates."""

from collections.abc import Callable
from math import nan
from pathlib import Path

import pytest

from router.sim.catalogue import load, offer
from router.sim.conduct import conduct
from router.sim.incident import Fail
from router.sim.measures import Measures, measure
from router.sim.policies import parse
from router.sim.profile import HBM
from router.sim.sizing import Answer, Demand, Promise, search, studied
from router.sim.study import Result, Run, Traffic

H100 = offer(load(), "h100", "llama-3.1-8b", "bf16")
DEMAND = Demand(
    traffic=Traffic(trace=Path("none.jsonl"), rate=10.0, duration=100.0),
    policy=parse("random"),
    block=512,
    block_bytes=0,
    longest=1000,
)
NOTHING = measure([], HBM, 0)

Attained = Callable[[int, float, int], float]
"""Share in time, of so many replicas, at so many times the load, with a seed."""


def promise(**fields: float) -> Promise:
    usual = {"ttft": 2.0, "attainment": 0.99, "seeds": 3, "spare": 0, "most": 64}
    return Promise(**(usual | fields))  # type: ignore[arg-type]


def result(share: float) -> Result:
    fields = {name: getattr(NOTHING, name) for name in Measures.__struct_fields__}
    return Result((Measures(**(fields | {"slo": share})),))


def sought(attained: Attained, **fields: float) -> tuple[Answer, list[tuple[int, float, int]]]:
    """The answer, and which runs were asked for: replicas, load, seed."""
    asked: list[tuple[int, float, int]] = []

    def told(run: Run) -> Result:
        study, index = run
        scenario = study.scenarios[index]
        key = (len(scenario.replicas), round(study.traffic.rate / 10.0, 6), scenario.seed)
        asked.append(key)
        return result(attained(*key))

    going = search(H100, DEMAND, promise(**fields))
    try:
        run = next(going)
        while True:
            run = going.send(told(run))
    except StopIteration as end:
        return end.value, asked


@pytest.mark.parametrize("needed", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 63, 64])
def test_the_fewest_that_do(needed: int) -> None:
    answer, asked = sought(lambda n, load, seed: 1.0 if n >= needed * load else 0.1)
    assert answer.best is not None
    assert answer.best.replicas == needed
    assert len(answer.best.results) == 3
    assert (answer.fewer.replicas if answer.fewer else None) == (needed - 1 or None)
    assert len(set(asked)) == len(asked)
    assert len({n for n, load, _ in asked if load == 1}) <= 13


def test_a_count_is_given_up_with_the_first_seed_that_fails() -> None:
    def attained(n: int, load: float, seed: int) -> float:
        return 0.1 if n < 4 else 0.9 if (n, seed) == (4, 2) else 1.0

    answer, asked = sought(attained)
    assert answer.best is not None and answer.best.replicas == 5
    assert [seed for n, _, seed in asked if n == 2] == [1]
    assert [seed for n, _, seed in asked if n == 4] == [1, 2]
    assert answer.fewer is not None and answer.fewer.attained == 0.9


def test_the_worst_seed_counts() -> None:
    answer, _ = sought(lambda n, load, seed: 1.0 - 0.001 * seed)
    assert answer.best is not None and answer.best.attained == 0.997


def test_it_ends_where_more_do_not_help() -> None:
    answer, asked = sought(lambda n, load, seed: 0.97 if n >= 4 else 0.2)
    assert answer.best is None
    assert answer.reason == "more replicas do not help: 97.00% in time with 4, 97.00% with 8"
    assert answer.tried == (1, 2, 4, 8)
    assert len(asked) == 4


def test_only_the_same_seeds_are_compared() -> None:
    """Two replicas fail with the second seed, by more than one does with the first."""
    answer, _ = sought(
        lambda n, load, seed: 1.0 if n >= (2 if seed == 1 else 4) else 0.98 if seed == 1 else 0.95
    )
    assert answer.best is not None and answer.best.replicas == 4


def test_it_ends_at_the_most() -> None:
    answer, _ = sought(lambda n, load, seed: min(0.98, n / 100), most=20)
    assert answer.best is None
    assert answer.reason == "20.00% in time with 20 replicas, the most to try"
    assert answer.tried == (1, 2, 4, 8, 16, 20)


def test_nothing_answered_is_nothing_in_time() -> None:
    answer, _ = sought(lambda n, load, seed: nan, most=2)
    assert answer.reason == "0.00% in time with 2 replicas, the most to try"


@pytest.mark.parametrize(("bears", "headroom"), [(1.0, 0.0), (1.25, 0.2), (1.3, 0.3), (9.0, 1.0)])
def test_headroom_is_in_tenths_of_the_load(bears: float, headroom: float) -> None:
    answer, asked = sought(lambda n, load, seed: 1.0 if n >= 3 and load <= bears else 0.0)
    assert answer.best is not None and answer.best.replicas == 3
    assert answer.headroom == pytest.approx(headroom)
    assert len({load for _, load, _ in asked}) <= 5


def test_spares_die_as_the_measured_time_begins() -> None:
    answer, asked = sought(lambda n, load, seed: 1.0 if n >= 5 else 0.1, spare=2)
    assert answer.best is not None and answer.best.replicas == 5
    assert min(n for n, _, _ in asked) == 3
    study = studied(H100, DEMAND, promise(spare=2), 5)
    assert study.scenarios[0].incidents == (Fail(40.0, 100.0, 0), Fail(40.0, 100.0, 1))
    assert study.phases()[0].begin == 40.0
    assert [scenario.seed for scenario in study.scenarios] == [1, 2, 3]
    none, _ = sought(lambda n, load, seed: 1.0, spare=2)
    assert none.best is not None and none.best.replicas == 3


def test_a_request_that_fits_nowhere_needs_no_simulation() -> None:
    demand = Demand(
        traffic=DEMAND.traffic, policy=DEMAND.policy, block=512, block_bytes=0, longest=412_001
    )
    with pytest.raises(StopIteration) as end:
        next(search(H100, demand, promise()))
    assert end.value.value.reason == "a request of 412001 tokens has no room in a cache of 412000"


def test_searches_go_on_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {10.0: 3, 20.0: 6}
    monkeypatch.setattr(
        "router.sim.conduct.perform",
        lambda run: result(
            float(len(run[0].scenarios[0].replicas) >= needed[round(run[0].traffic.duration)])
        ),
    )
    searches = {
        str(duration): search(
            H100,
            Demand(
                traffic=Traffic(trace=Path("none"), rate=1.0, duration=duration),
                policy=parse("random"),
                block=512,
                block_bytes=0,
                longest=1,
            ),
            promise(seeds=1),
        )
        for duration in needed
    }
    progress: list[tuple[int, int]] = []
    answers = conduct(searches, 1, lambda runs, over: progress.append((runs, over)))
    assert list(answers) == ["10.0", "20.0"]
    assert [answer.best.replicas for answer in answers.values() if answer.best] == [3, 6]
    assert progress[-1][1] == 2
    assert [runs for runs, _ in progress] == sorted(runs for runs, _ in progress)
