"""The timing model by a hand clock: what comes out when."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.emulator import PROFILES, EngineModel, Sequence, Timing
from engine.emulator.text import answer_text

STEADY = Timing(prefill_tokens_per_second=1000, decode_step=0.1, block_size=4, num_blocks=1000)


def prompt(name: str, tokens: int) -> bytes:
    return (name * 4 * tokens)[: 4 * tokens].encode()


def sequence(name: str, tokens: int, target: int, width: int = 1) -> Sequence:
    return Sequence(prompt(name, tokens), tokens, target, width=width, owner=name)


def timeline(model: EngineModel, until: float = 1e9) -> list[tuple[float, str, int]]:
    """Everything that happens, as (time, who, tokens so far)."""
    seen = []
    while model.next_time is not None and model.next_time <= until:
        for step in model.advance(model.next_time):
            seen += [(round(step.end, 6), str(s.owner), s.produced) for s in step.progressed]
    return seen


def test_one_request_prefill_then_a_token_per_step() -> None:
    model = EngineModel(STEADY)
    model.submit(sequence("a", 100, 3), now=5.0)
    # 0.1 s step + 100 tokens at 1000/s, then 0.1 s per token
    assert timeline(model) == [(5.2, "a", 1), (5.3, "a", 2), (5.4, "a", 3)]
    assert model.next_time is None
    assert (model.running, dict(model.waiting), model.kv.in_use) == ({}, {}, 0)


def test_advance_far_ahead_gives_the_same_steps_as_one_by_one() -> None:
    model = EngineModel(STEADY)
    model.submit(sequence("a", 100, 3), now=5.0)
    assert [round(step.end, 6) for step in model.advance(100.0)] == [5.2, 5.3, 5.4]


def test_a_step_slows_down_with_the_contexts_it_reads() -> None:
    timing = Timing(decode_step=0.1, decode_per_kv_token=0.001, block_size=4, num_blocks=1000)
    model = EngineModel(timing)
    model.submit(sequence("a", 100, 3), now=0.0)
    model.submit(sequence("b", 10, 2, width=2), now=0.0)
    # 101 tokens of "a" while the prompt of "b" is computed, then 102 and twice 11 of "b".
    assert timeline(model) == [
        (0.1, "a", 1),
        (0.301, "a", 2),
        (0.301, "b", 1),
        (0.525, "a", 3),
        (0.525, "b", 2),
    ]


def test_what_comes_from_the_host_tier_takes_its_time() -> None:
    timing = Timing(
        decode_step=0.1, reload_per_token=0.01, block_size=4, num_blocks=3, host_blocks=9
    )
    model = EngineModel(timing)
    model.submit(sequence("a", 8, 1), now=0.0)
    model.submit(sequence("b", 8, 1), now=0.0)
    again = sequence("a", 8, 1)
    model.submit(again, now=0.0)
    # Each needs all three blocks, so "b" pushes "a" down, from where its first block comes back;
    # its second one is computed, as the last token of a prompt always is.
    assert timeline(model) == [(0.1, "a", 1), (0.2, "b", 1), (0.34, "a", 1)]
    assert (again.cached, again.reloaded) == (4, 4)


def test_decoding_takes_from_the_budget_of_prompts() -> None:
    timing = Timing(decode_step=0.1, max_num_batched_tokens=10, max_num_seqs=8)
    model = EngineModel(timing)
    model.submit(sequence("a", 2, 5, width=4), now=0.0)
    model.submit(sequence("b", 22, 1), now=0.0)
    # "a" has begun alone; its 4 choices leave 6 a step to the prompt: 6 + 6 + 6 + 4.
    assert [at for at, who, _ in timeline(model) if who == "b"] == [0.5]


def test_a_newcomer_joins_at_the_next_step_and_slows_the_others() -> None:
    model = EngineModel(STEADY)
    model.submit(sequence("a", 100, 4), now=0.0)
    model.advance(0.25)  # "a" has one token, its second step runs until 0.3
    model.submit(sequence("b", 200, 2), now=0.25)
    assert timeline(model) == [
        (0.3, "a", 2),
        (0.6, "a", 3),  # 0.1 + 200 prompt tokens of "b" in the same step
        (0.6, "b", 1),
        (0.7, "a", 4),
        (0.7, "b", 2),
    ]


def test_decoding_sequences_cost_time() -> None:
    model = EngineModel(Timing(decode_step=0.1, decode_per_seq=0.01))
    for name in "abc":
        model.submit(sequence(name, 1, 2), now=0.0)
    # "a" starts alone; "b" and "c" prefill beside a's decode: 0.1 + 0.01; then two decode
    assert [t for t, _, _ in timeline(model)] == [0.1, 0.21, 0.21, 0.21, 0.33, 0.33]


def test_long_prompts_are_cut_by_the_token_budget() -> None:
    timing = Timing(prefill_tokens_per_second=1000, decode_step=0.01, max_num_batched_tokens=100)
    model = EngineModel(timing)
    model.submit(sequence("a", 250, 1), now=0.0)
    steps = model.advance(10.0)
    assert [step.prefilled for step in steps] == [100, 100, 50]
    assert steps[-1].end == pytest.approx(0.25 + 3 * 0.01)


def test_the_quadratic_term_counts_the_context_before_a_token() -> None:
    timing = Timing(prefill_quadratic=1e-6, max_num_batched_tokens=100)
    whole = EngineModel(Timing(prefill_quadratic=1e-6, max_num_batched_tokens=1000))
    chunked = EngineModel(timing)
    for model in (whole, chunked):
        model.submit(sequence("a", 300, 1), now=0.0)
    # n^2/2, whatever the chunks are
    assert whole.advance(9)[-1].end == pytest.approx(300 * 300 / 2 * 1e-6)
    assert chunked.advance(9)[-1].end == pytest.approx(300 * 300 / 2 * 1e-6)


def test_seats_are_given_in_order_of_arrival() -> None:
    model = EngineModel(Timing(decode_step=0.1, max_num_seqs=2))
    for name in "abc":
        model.submit(sequence(name, 1, 2), now=0.0)
    assert (len(model.running), len(model.waiting)) == (1, 2)  # the first step began with "a" alone
    assert timeline(model) == [
        *((0.1, "a", 1), (0.2, "a", 2), (0.2, "b", 1)),
        *((0.3, "b", 2), (0.3, "c", 1), (0.4, "c", 2)),
    ]


def test_kv_exhaustion_queues_and_nobody_overtakes() -> None:
    model = EngineModel(Timing(decode_step=0.1, block_size=4, num_blocks=10))
    model.submit(sequence("a", 20, 4), now=0.0)  # 6 blocks
    model.submit(sequence("b", 20, 4), now=0.0)  # 6 blocks: must wait for "a"
    model.submit(sequence("c", 4, 4), now=0.0)  # 2 blocks would fit, but "b" is first
    seen = timeline(model)
    assert [who for _, who, tokens in seen if tokens == 1] == ["a", "b", "c"]
    first = {who: t for t, who, tokens in seen if tokens == 1}
    assert first == {"a": 0.1, "b": 0.5, "c": 0.5}


def test_speed_divides_all_times() -> None:
    model = EngineModel(Timing(prefill_tokens_per_second=1000, decode_step=0.1, speed=10))
    model.submit(sequence("a", 100, 2), now=0.0)
    assert [t for t, _, _ in timeline(model)] == [0.02, 0.03]


def test_a_shared_prefix_is_not_computed_again() -> None:
    model = EngineModel(STEADY)
    first = sequence("a", 100, 1)
    model.submit(first, now=0.0)
    timeline(model)
    again = Sequence(first.prompt + prompt("z", 10), 110, 1, owner="b")
    model.submit(again, now=10.0)
    assert timeline(model) == [(10.11, "b", 1)]  # 0.1 + 10 new tokens
    assert again.cached == 100


def test_even_a_fully_cached_prompt_computes_its_last_block() -> None:
    model = EngineModel(STEADY)
    for now in (0.0, 10.0):
        last = sequence("a", 100, 1)
        model.submit(last, now)
        timeline(model)
    assert last.cached == 96


def test_the_next_turn_finds_the_answer_in_the_cache_too() -> None:
    model = EngineModel(STEADY, answer_text)
    model.submit(sequence("a", 100, 20), now=0.0)
    timeline(model)
    turn = prompt("a", 100) + answer_text(20) + prompt("b", 8)
    second = Sequence(turn, 128, 1, owner="b")
    model.submit(second, now=10.0)
    assert second.cached == 120


def test_prefix_caching_can_be_off() -> None:
    model = EngineModel(Timing(decode_step=0.1, prefix_caching=False))
    for _ in range(2):
        last = sequence("a", 100, 1)
        model.submit(last, now=0.0)
        timeline(model)
    assert last.cached == 0


def test_cancel_frees_seat_and_blocks_for_the_next() -> None:
    model = EngineModel(Timing(decode_step=0.1, max_num_seqs=1))
    hog, patient, queued = sequence("a", 1, 100), sequence("b", 1, 1), sequence("c", 1, 1)
    for one in (hog, queued, patient):
        model.submit(one, now=0.0)
    model.cancel(queued, now=0.0)
    assert timeline(model, until=0.35) == [(0.1, "a", 1), (0.2, "a", 2), (0.3, "a", 3)]
    model.cancel(hog, now=0.35)
    assert timeline(model) == [(0.5, "b", 1)]  # the step under way ends empty at 0.4
    assert model.kv.in_use == 0


def test_a_slow_sequence_does_not_slow_its_neighbours() -> None:
    model = EngineModel(Timing(decode_step=0.1))
    slow = sequence("s", 1, 3)
    slow.slow_factor = 3.0
    model.submit(slow, now=0.0)
    model.submit(sequence("n", 1, 8), now=0.0)
    seen = timeline(model)
    assert [t for t, who, _ in seen if who == "n"] == pytest.approx(
        [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    )
    gaps = [t for t, who, _ in seen if who == "s"]
    assert all(b - a >= 0.3 - 1e-9 for a, b in pairwise(gaps))


def test_a_stall_pauses_for_its_time_or_for_ever() -> None:
    model = EngineModel(Timing(decode_step=0.1))
    pausing, stuck = sequence("p", 1, 3), sequence("x", 1, 3)
    pausing.stall_at, pausing.stall_for = 2, 5.0
    stuck.stall_at = 1
    model.submit(pausing, now=0.0)
    model.submit(stuck, now=0.0)
    assert timeline(model) == [(0.1, "p", 1), (0.2, "p", 2), (0.2, "x", 1), (5.3, "p", 3)]
    assert model.next_time is None
    model.cancel(stuck, now=9.0)
    assert model.kv.in_use == 0


def test_choices_share_the_prompt_but_cost_like_separate_sequences() -> None:
    model = EngineModel(Timing(decode_step=0.1, decode_per_seq=0.01, block_size=4, max_num_seqs=4))
    model.submit(sequence("a", 8, 2, width=3), now=0.0)
    assert model.kv.in_use == 2 + 3  # 2 full prompt blocks, one more for each choice
    assert [t for t, _, _ in timeline(model)] == [0.1, 0.23]


def test_the_free_profile_finishes_at_once_but_in_bites() -> None:
    model = EngineModel(PROFILES["instant"])
    model.submit(sequence("a", 10, 150), now=1.0)
    bites = []
    while model.next_time is not None:
        bites += [s.fresh for step in model.advance(1.0) for s in step.progressed]
    assert bites == [64, 64, 22]


def test_kv_usage_counts_what_is_computed_not_what_is_reserved() -> None:
    model = EngineModel(Timing(decode_step=1.0, block_size=4, num_blocks=100))
    model.submit(sequence("a", 40, 40), now=0.0)
    assert (model.kv.in_use, model.kv_usage()) == (20, 0.0)
    model.advance(1.0)
    assert model.kv_usage() == pytest.approx(0.11)  # 40 prompt tokens and the first of the answer


def test_the_h100_profile_is_near_its_sources() -> None:
    """Published: about 0.28 s for 8192 prompt tokens, 6 ms steps alone, about 16 ms at 256."""
    timing = PROFILES["h100-8b"]
    model = EngineModel(timing)
    model.submit(sequence("a", 8192, 2), now=0.0)
    first, second = (t for t, _, _ in timeline(model))
    assert first == pytest.approx(0.28, rel=0.1)
    assert second - first == pytest.approx(0.006, rel=0.1)
    assert timing.decode_step + 256 * timing.decode_per_seq == pytest.approx(0.016, rel=0.1)


@pytest.mark.parametrize("profile", ["h100-8b-hbm", "h100-8b-offload"])
def test_the_profiles_for_routing_are_those_of_the_measured_engine(profile: str) -> None:
    """Steps of an H100 with Llama-3.1-8B: 8.2, 17.8, 30.2 and 64.8 ms, here within a sixth."""
    timing = PROFILES[profile]
    for tokens, measured in ((1, 0.0082), (512, 0.0178), (1024, 0.0302), (2048, 0.0648)):
        model = EngineModel(timing)
        model.submit(sequence("a", tokens, 1), now=0.0)
        assert timeline(model)[0][0] == pytest.approx(measured, rel=1 / 6)
    model = EngineModel(timing)
    model.submit(sequence("a", 4096, 2), now=0.0)
    (first, _, _), (second, _, _) = timeline(model)
    assert first == pytest.approx(0.126, rel=0.01)
    assert second - first == pytest.approx(0.0083, rel=0.03)


def test_the_profiles_for_routing_hold_what_they_say() -> None:
    hbm, offload = PROFILES["h100-8b-hbm"], PROFILES["h100-8b-offload"]
    assert (hbm.num_blocks * hbm.block_size, hbm.host_blocks) == (412_000, 0)
    assert offload.num_blocks * offload.block_size == 824_000
    assert (offload.num_blocks + offload.host_blocks) * offload.block_size == 3_300_000
    assert hbm.decode_per_kv_token == 2 * offload.decode_per_kv_token == 50e-9
    assert offload.reload_per_token == 2.6e-6
