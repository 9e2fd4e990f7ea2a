"""A forecast looked at from elsewhere decides as the forecast itself."""

import random

import pytest

from router.core.balancers.first_token import FirstToken
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.forecast.forecast import Forecast
from router.core.forecast.recalled import Recalled
from router.core.forecast.seen import ForecastSeen, see
from router.core.host import Outcome
from router.core.load import LoadReport
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from tests.core.routers import Router, chat


def looked_at(router: Router, asked: LlmRequest, now: float) -> ForecastSeen:
    conversation = asked.prefix_hash or 0
    return see(router.forecast, asked.checkpoints, asked.prompt_bytes, conversation, now)


def elsewhere(seen: ForecastSeen) -> tuple[FirstToken, Recalled]:
    memory = ClusterMemory.alone()
    recalled = Recalled(seen)
    assert memory.keep(Forecast, lambda: recalled) is recalled
    balancer = PredictedTtft.Spec().build(random.Random(1), memory)
    assert isinstance(balancer, FirstToken)
    return balancer, recalled


@pytest.mark.parametrize("seed", range(30))
def test_the_same_endpoint_for_the_same_reason(seed: int) -> None:
    chance = random.Random(seed)
    router = Router(1, endpoints=4)
    now = 0.0
    for step in range(40):
        work = router.send(
            chat(chance.choice([300, 4000, 9000]), step % 9), chance.randrange(4), now
        )
        fate = chance.random()
        if fate < 0.7:
            work.first_token(now + chance.random(), True)
        if fate < 0.5:
            work.ended(Outcome.SUCCESS, now + 1.0)
        now += chance.random() / 2
    router.forecast.trust.believed = seed % 5 > 0
    for host in router.hosts:
        router.forecast.of(host.id).suppose(chance.random() / 4)
    asked = chat(5000, seed % 9)
    expected, columns = router.where(asked, now), router.balancer.explain(asked, router.hosts)
    balancer, _ = elsewhere(looked_at(router, asked, now))
    host, reason = balancer.pick(asked, router.hosts, random.Random(1), now=now)
    assert (host.slot, reason) == expected
    told = balancer.explain(asked, router.hosts)
    assert told.notes == columns.notes
    for id_, row in told.hosts.items():
        for column in ("cached_tokens", "own_s", "decoding", "pace"):
            assert row[column] == pytest.approx(columns.hosts[id_][column])
        assert row["queued_s"] == pytest.approx(router.forecast.of(id_).wait(now), abs=1e-9)


def test_a_report_that_is_in_the_wait_already_is_not_heeded_twice() -> None:
    router = Router(1)
    id_ = router.hosts[0].id
    load = LoadReport(1.0, running=1, waiting=5, queued_prefill=50_000)
    router.forecast.reported(id_, load)
    _, recalled = elsewhere(looked_at(router, chat(100), 1.0))
    before = recalled.of(id_).wait(1.0)
    assert before == pytest.approx(router.forecast.of(id_).wait(1.0))
    recalled.reported(id_, load)
    assert recalled.of(id_).wait(1.0) == before
