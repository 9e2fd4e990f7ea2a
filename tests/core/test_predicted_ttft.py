"""Predicted time to the first token, told as timelines with a hand clock."""

import random

import pytest

from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.forecast.forecast import Forecast
from router.core.forecast.work import PrefillWork
from router.core.host import HostState, Outcome
from router.core.load import LoadReport
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.prefix.blocks import BLOCK, checkpoints
from tests.core.world import World, hosts, request, snapshot

RNG = random.Random(5)


class Scene:
    """A balancer, its endpoints, and attempts by name of endpoint."""

    def __init__(self, *weights: int, **spec: float) -> None:
        self.hosts = hosts(*weights)
        self.memory = ClusterMemory.alone()
        self.balancer = PredictedTtft.Spec(**spec).build(RNG, self.memory)
        self.forecast = self.memory.keep(Forecast)

    def pick(self, asked: LlmRequest, now: float = 0.0, **kwargs: object) -> tuple[HostState, str]:
        return self.balancer.pick(asked, self.hosts, RNG, now=now, **kwargs)

    def send(self, asked: LlmRequest, index: int, now: float = 0.0) -> PrefillWork:
        return self.forecast.begin(asked, self.hosts[index], now)

    def where(self, asked: LlmRequest, now: float = 0.0) -> str:
        return self.pick(asked, now)[0].endpoint.host


def chat(tokens: int, seed: int = 0, shared: int = 0, stream: bool = True) -> LlmRequest:
    """A prompt of so many tokens, of which the first ``shared`` are everybody's."""
    text = random.Random("all").randbytes(4 * shared)
    text += random.Random(seed).randbytes(4 * (tokens - shared))
    size = len(text)
    found = checkpoints([text], 0)
    return request(stream=stream, prompt_bytes=size, body_bytes=size, checkpoints=found)


def test_nobody_knows_anything_yet() -> None:
    scene = Scene(1, 1, 1)
    names = {scene.where(chat(1000, seed)) for seed in range(50)}
    assert names == {"h0", "h1", "h2"}, "ties are broken at random"


def test_the_next_turn_goes_where_its_prefix_is() -> None:
    scene = Scene(1, 1, 1)
    work = scene.send(chat(4000), 1)
    work.first_token(0.2, True)
    work.ended(Outcome.SUCCESS, 1.0)
    host, reason = scene.pick(chat(4000), 2.0)
    assert (host.endpoint.host, reason) == ("h1", "prefix hit")


def test_a_long_line_outweighs_a_short_prefix() -> None:
    """A kilotoken of prefix saves 25 ms; four prompts of 8k in line are over a second."""
    scene = Scene(1, 1)
    scene.send(chat(1000), 0).ended(Outcome.SUCCESS, 0.1)
    assert scene.where(chat(1000), 0.2) == "h0"
    for seed in range(4):
        scene.send(chat(8000, seed + 10), 0, 0.2)
    host, reason = scene.pick(chat(1000), 0.2)
    assert (host.endpoint.host, reason) == ("h1", "moved, sooner elsewhere")


def test_prompts_not_requests_are_what_weighs() -> None:
    """One endpoint has a single prompt of 60k tokens, the other five of 500."""
    scene = Scene(1, 1)
    scene.send(chat(60_000), 0)
    for seed in range(5):
        scene.send(chat(500, seed + 1), 1)
    assert scene.where(chat(500, 9)) == "h1"


def test_the_line_gets_shorter_as_time_passes_and_as_tokens_come() -> None:
    scene = Scene(1)
    outlook = scene.forecast.of(scene.hosts[0].id)
    first, second = scene.send(chat(8000), 0, 0.0), scene.send(chat(8000, 1), 0, 0.0)
    whole = outlook.wait(0.0)
    assert whole == pytest.approx(first.cost + second.cost)
    assert outlook.wait(0.1) == pytest.approx(whole - 0.1)
    assert outlook.wait(99.0) == pytest.approx(second.cost), "for all it knows it has not begun"
    first.first_token(0.25, True)
    assert outlook.wait(0.25) == pytest.approx(outlook.pace * second.cost)
    second.first_token(0.5, True)
    assert outlook.wait(0.5) == 0.0


def test_a_slow_endpoint_is_found_out() -> None:
    """One takes three times as long as predicted, the other as long."""
    scene = Scene(1, 1)
    now = 0.0
    for seed in range(200):
        for index, slow in ((0, 3.0), (1, 1.0)):
            work = scene.send(chat(8000, 1000 + 2 * seed + index), index, now)
            work.first_token(now + slow * work.cost, True)
            work.ended(Outcome.SUCCESS, now + slow * work.cost)
        now += 10.0
    slow, quick = (scene.forecast.of(host.id).pace for host in scene.hosts)
    assert 1.9 < slow / quick < 3.0, "drawn together by what is assumed of both"
    assert scene.where(chat(8000, 7), now) == "h1"


def test_who_decodes_much_is_spared() -> None:
    scene = Scene(1, 1)
    for seed in range(30):
        scene.send(chat(2000, seed), 0).first_token(0.1, True)
    assert scene.where(chat(500, 99), 5.0) == "h1"


def test_answers_that_do_not_stream_are_thought_to_be_read_in_time() -> None:
    scene = Scene(1)
    outlook = scene.forecast.of(scene.hosts[0].id)
    work = scene.send(chat(8000, stream=False), 0, 0.0)
    assert outlook.wait(0.0) > 0
    scene.pick(chat(100), work.cost + 0.01)
    assert (outlook.wait(work.cost + 0.01), outlook.decoding) == (0.0, 1)
    work.first_token(4.0, False)
    work.ended(Outcome.SUCCESS, 4.0)
    assert outlook.decoding == 0


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_whatever_becomes_of_it_nothing_stays_in_line(
    outcome: Outcome, heard: bool, stream: bool
) -> None:
    scene = Scene(1, 1)
    outlook = scene.forecast.of(scene.hosts[0].id)
    work = scene.send(chat(3000, stream=stream), 0, 0.0)
    if heard:
        work.first_token(0.1, stream)
    work.ended(outcome, 0.2)
    assert not outlook.line
    assert (outlook.queued, outlook.decoding, outlook.context, outlook.silent) == (0, 0, 0, 0)
    assert outlook.wait(0.2) == 0.0


def test_who_leaves_from_the_middle_of_the_line() -> None:
    scene = Scene(1)
    outlook = scene.forecast.of(scene.hosts[0].id)
    works = [scene.send(chat(4000, seed), 0, 0.0) for seed in range(3)]
    works[1].ended(Outcome.ABANDONED, 0.05)
    assert outlook.wait(0.0) == pytest.approx(works[0].cost + works[2].cost)
    works[0].ended(Outcome.ABANDONED, 0.05)
    assert outlook.wait(0.05) == pytest.approx(works[2].cost)


def test_an_endpoint_that_never_read_a_prompt_has_not_got_it() -> None:
    scene = Scene(1, 1)
    scene.send(chat(4000), 0).ended(Outcome.CONNECT_FAILURE, 0.1)
    assert scene.pick(chat(4000), 0.2)[1] == "new prefix, least work"
    scene.send(chat(4000), 0).ended(Outcome.ABANDONED, 0.3)
    assert scene.where(chat(4000), 0.4) == "h0", "it may well have"


def test_a_lost_endpoint_comes_back_empty() -> None:
    scene = Scene(1, 1)
    work = scene.send(chat(4000), 0)
    waiting = scene.send(chat(9000, 1), 0)
    work.first_token(0.2, True)
    scene.memory.lost(scene.hosts[0].id)
    assert scene.forecast.of(scene.hosts[0].id).wait(0.3) == 0.0
    assert scene.pick(chat(4000), 0.3)[1] == "new prefix, least work"
    waiting.ended(Outcome.RESET, 0.4)
    work.ended(Outcome.TRUNCATED, 0.4)
    work.usage(4000, 0)
    after = scene.forecast.of(scene.hosts[0].id)
    assert (after.decoding, after.queued, len(after.page)) == (0, 0.0, 0)


def test_a_hot_prompt_of_all_spreads() -> None:
    """4k tokens that everybody sends: half a second of work each must not pile up at one."""
    scene = Scene(*[1] * 8)
    sent = [0] * 8
    now = 0.0
    for seed in range(400):
        asked = chat(4400, seed, shared=4000)
        host = scene.pick(asked, now)[0]
        sent[host.slot] += 1
        work = scene.send(asked, host.slot, now)
        work.first_token(now + 0.1, True)
        now += 0.02
    assert min(sent) > 25
    assert max(sent) < 100


def test_failures_do_not_attract() -> None:
    scene = Scene(1, 1)
    scene.hosts[0].scars = 1
    for seed in range(3):
        scene.send(chat(4000, seed), 1)
    assert scene.where(chat(500, 9)) == "h1"


def test_lines_are_as_long_as_weights_say() -> None:
    scene = Scene(1, 4)
    for seed in range(500):
        asked = chat(2000, seed)
        scene.send(asked, scene.pick(asked)[0].slot)
    short, long = (scene.forecast.of(host.id).queued for host in scene.hosts)
    assert 3.8 < long / short < 4.2


def test_the_last_resort_is_who_was_tried() -> None:
    scene = Scene(1, 1, 1)
    tried = (scene.hosts[0].id, scene.hosts[2].id)
    assert {scene.pick(chat(900, n), tried=tried)[0].slot for n in range(20)} == {1}
    assert scene.pick(chat(900), tried=tuple(host.id for host in scene.hosts))[0] in scene.hosts


def test_what_an_engine_has_besides_ours_counts() -> None:
    scene = Scene(1, 1)
    load = LoadReport(0.0, running=1, waiting=3, queued_prefill=50_000)
    scene.forecast.reported(scene.hosts[0].id, load)
    assert scene.where(chat(500)) == "h1"
    scene.forecast.reported(scene.hosts[0].id, LoadReport(1.0, running=1, waiting=0))
    scene.forecast.reported(scene.hosts[1].id, LoadReport(1.0, running=9, waiting=4))
    assert scene.where(chat(500)) == "h0"
    scene.forecast.reported(scene.hosts[1].id, None)
    assert {scene.where(chat(500, n), 0.0) for n in range(20)} == {"h0", "h1"}


def test_an_engines_old_word_is_forgotten() -> None:
    scene = Scene(1, 1)
    load = LoadReport(10.0, running=1, waiting=3, queued_prefill=50_000)
    scene.memory.reported(scene.hosts[0].id, load)
    scene.memory.look(14.0)
    assert scene.where(chat(500)) == "h1"
    scene.memory.look(15.1)
    assert {scene.where(chat(500, n)) for n in range(20)} == {"h0", "h1"}


def test_the_fleet_passes_on_what_is_new() -> None:
    world = World(snapshot(2, balancer=PredictedTtft.Spec()))
    world.begin()
    forecast = world.fleet.memory("c").keep(Forecast)
    id_ = world.host(0).id

    def foreign(load: LoadReport | None) -> float:
        world.fleet.set_load(id_, load)
        return forecast.of(id_).foreign

    first = LoadReport(1.0, running=1, waiting=0, queued_prefill=50_000, capacity=400_000)
    told = foreign(first)
    assert told > 0
    assert foreign(LoadReport(0.9, running=1, waiting=0, queued_prefill=0)) == told, "older"
    forecast.of(id_).heed(0.0)
    assert foreign(first) == 0.0, "told twice is no news"
    assert foreign(LoadReport(2.0, running=1, waiting=0, queued_prefill=50_000)) > 0
    assert foreign(None) == 0.0


def test_an_endpoint_that_comes_back_is_as_large_as_it_says_then() -> None:
    scene = Scene(1, 1)
    large, small = (host.id for host in scene.hosts)
    for id_, capacity in ((large, 400_000), (small, 200_000)):
        scene.memory.reported(id_, LoadReport(1.0, running=0, waiting=0, capacity=capacity))
    assert scene.forecast.of(small).page.scale == 1.5
    scene.memory.lost(small)
    assert scene.forecast.of(small).page.scale == 1.0
    scene.memory.reported(small, LoadReport(2.0, running=0, waiting=0, capacity=200_000))
    assert scene.forecast.of(small).page.scale == 1.5


def test_bytes_per_token_are_learned() -> None:
    scene = Scene(1)
    for seed in range(300):
        work = scene.send(chat(1000, seed), 0)
        work.ended(Outcome.SUCCESS, 0.1)
        work.usage(2000, None)
    assert scene.forecast.bytes_per_token == pytest.approx(2.0, rel=0.01)
    assert scene.forecast.tokens(chat(1000)) == pytest.approx(2000, rel=0.01)


def test_expected_and_found_tokens_are_compared() -> None:
    scene = Scene(1)
    scene.send(chat(4000), 0).ended(Outcome.SUCCESS, 0.1)
    work = scene.send(chat(4000), 0, 1.0)
    work.ended(Outcome.SUCCESS, 1.1)
    work.usage(4000, 3968)
    trust = scene.forecast.trust
    assert trust.found == 3968
    assert trust.expected == pytest.approx(4000, rel=0.03)
    assert trust.error < 0.03


def test_a_probe_of_a_few_words_tells_nothing_of_the_mirror() -> None:
    """Engines keep whole blocks of their own: of 16 tokens none are found again, of 40 two thirds.

    Monitoring that asks one of these each second must not take a cluster's prefixes away at night.
    """
    scene = Scene(1)
    for now, (tokens, found) in enumerate([(16, 0), (40, 32)] * 100):
        work = scene.send(chat(tokens), 0, now)
        work.ended(Outcome.SUCCESS, now + 0.1)
        work.usage(tokens, found)
    assert scene.forecast.trust.believed
    assert scene.forecast.trust.answers == 0


def test_caches_say_how_large_they_are() -> None:
    scene = Scene(1, 1)
    ids = [host.id for host in scene.hosts]
    scene.forecast.sized([(ids[0], 400_000), (ids[1], 200_000)])
    assert scene.forecast.mirror.capacity * BLOCK / 4 == pytest.approx(300_000)
    assert scene.forecast.of(ids[1]).page.scale == 1.5


def test_explained() -> None:
    scene = Scene(1, 1)
    scene.send(chat(4000), 0).first_token(0.1, True)
    scores = scene.balancer.explain(chat(4000), scene.hosts)
    assert scores.notes["prompt_tokens"] == 4000
    held, empty = (scores.hosts[host.id] for host in scene.hosts)
    assert held["cached_tokens"] == 4000
    assert empty["cached_tokens"] == 0
    assert empty["own_s"] > held["own_s"]
