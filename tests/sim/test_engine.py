"""The modelled engine against timelines worked out by hand."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.sim.engine import Engine, Job
from router.sim.profile import HBM, OFF, PICOSECONDS, Profile
from tests.sim.engines import engine, job, run


def test_one_prompt_takes_its_chunks_and_then_a_step_for_each_further_token() -> None:
    # Chunks of 100, 100 and 50 tokens, then two steps of 10 with one decoding sequence (2).
    assert run(engine(), (0, job(1, 250, 3))) == [
        (110 + 110 + 60, "first", 1),
        (280 + 12 + 12, "done", 1),
    ]


def test_time_is_counted_by_what_it_was_spent_on() -> None:
    model = engine()
    run(model, (0, job(1, 250, 3)), (1000, job(2, 60, 1)))
    assert (model.busy, model.prefilling) == (304 + 70, 250 + 60)


def test_an_answer_of_one_token_is_over_with_its_first() -> None:
    assert run(engine(), (0, job(1, 30, 1))) == [(40, "first", 1), (40, "done", 1)]


def test_a_prompt_shares_its_step_with_those_that_decode() -> None:
    # 1 has its first token at 30. 2 comes at 35, in the step that ends at 42, and is computed in
    # the next one: 10 + 40 + 2 for the token of 1.
    assert run(engine(), (0, job(1, 20, 3)), (35, job(2, 40, 1))) == [
        (30, "first", 1),
        (42 + 52, "first", 2),
        (94, "done", 1),
        (94, "done", 2),
    ]


def test_decoding_sequences_count_in_the_tokens_of_a_step() -> None:
    # With 1 decoding there is room for 99 of the 100 tokens of 2: the last takes another step.
    story = run(engine(), (0, job(1, 10, 9)), (20, job(2, 100, 1)))
    assert story[:2] == [(20, "first", 1), (20 + (10 + 99 + 2) + (10 + 1 + 2), "first", 2)]


def test_prompts_are_computed_first_come_first_served_even_within_a_step() -> None:
    story = run(engine(), (0, job(1, 150, 1)), (1, job(2, 20, 1)), (2, job(3, 90, 1)))
    # Step 1: 100 of 1. Step 2: 50 of 1, 20 of 2, 30 of 3. Step 3: 60 of 3.
    assert [(at, key) for at, what, key in story if what == "first"] == [
        (220, 1),
        (220, 2),
        (290, 3),
    ]


def test_context_grows_by_a_token_a_step() -> None:
    # Context of 21 and 22 tokens in the two steps.
    story = run(engine(per_kv_token=1), (0, job(1, 20, 3)))
    assert story == [(30, "first", 1), (30 + (12 + 21) + (12 + 22), "done", 1)]


def test_attention_grows_with_what_comes_before() -> None:
    # Pairs: 100 * 50 in the first chunk, 100 * 150 in the second.
    assert run(engine(per_token_context=1), (0, job(1, 200, 1)))[0] == (
        220 + 5000 + 15000,
        "first",
        1,
    )


def test_a_prompt_seen_before_is_computed_from_where_it_differs() -> None:
    model = engine()
    run(model, (0, job(1, 60, 1)))
    again = job(2, 60, 1, first_block=1000)
    # Its last block is computed again: there has to be something to predict from.
    assert run(model, (100, again))[0] == (100 + 10 + 10, "first", 2)
    assert again.cached == 50


def test_whoever_is_admitted_finds_what_those_in_front_compute_in_the_same_step() -> None:
    model = engine()
    same = job(2, 60, 1, first_block=1000)
    story = run(model, (0, job(9, 10, 1)), (0, job(1, 60, 1)), (0, same))
    assert same.cached == 50
    assert story[-1] == (20 + 10 + 60 + 10, "done", 2)


def test_blocks_without_ids_are_nobodys() -> None:
    model = engine()
    blocks = (7, 8, 9)  # of six: where the log knows no more
    again = Job(2, blocks, 65, 1)
    run(model, (0, Job(1, blocks, 65, 1)), (0, again))
    assert again.cached == 30
    assert model.cache.pinned == 0


def test_the_first_in_line_waits_for_room_and_all_others_behind_it() -> None:
    # 2 needs 650 of the 1000 tokens, of which 1 holds 450: it starts when 1 has ended at 545.
    # 3 would have room, and is not let past.
    story = run(engine(), (0, job(1, 400, 50)), (1, job(2, 600, 50)), (2, job(3, 10, 1)))
    ended = 4 * 110 + 49 * 12
    assert (ended, "done", 1) in story
    assert [(at, key) for at, what, key in story if what == "first"] == [
        (440, 1),
        (ended + 6 * 110, 2),
        (ended + 6 * 110 + 10 + 10 + 2, 3),
    ]


def test_so_many_sequences_run_and_no_more() -> None:
    story = run(engine(max_sequences=2), *((0, job(key, 10, 5)) for key in (1, 2, 3)))
    firsts = {key: at for at, what, key in story if what == "first"}
    dones = {key: at for at, what, key in story if what == "done"}
    assert firsts[3] > dones[1]


def test_what_the_device_evicts_comes_back_from_the_host_at_a_price() -> None:
    model = engine(kv_tokens=100, host_tokens=200)
    run(model, (0, job(1, 60, 10)))
    run(model, (1000, job(2, 90, 10)))  # all of the device: 1 goes to the host
    back = job(3, 60, 1, first_block=1000)
    # 5 blocks reloaded at 3 a token, and 10 tokens computed.
    assert run(model, (3000, back))[0] == (3000 + 10 + 150 + 10, "first", 3)
    assert back.cached == 50


def test_without_a_host_tier_it_is_gone() -> None:
    model = engine(kv_tokens=100)
    run(model, (0, job(1, 60, 10)), (1000, job(2, 90, 10)))
    back = job(3, 60, 1, first_block=1000)
    run(model, (3000, back))
    assert back.cached == 0


def test_a_crash_loses_sequences_and_cache() -> None:
    model = engine()
    for one in (job(1, 10, 50), job(2, 250, 1), job(3, 10, 1)):
        model.submit(one, 0)
    model.advance()
    assert sorted(one.key for one in model.crash()) == [1, 2, 3]
    assert repr(model) == ("<Engine waiting=0 running=0 <KvCache pinned=0 evictable=0 on_host=0>>")
    again = job(4, 60, 1, first_block=1000)
    assert run(model, (500, again))[0] == (570, "first", 4)


def test_what_can_never_fit_is_not_taken() -> None:
    with pytest.raises(ValueError, match="1001 tokens do not fit in 1000"):
        engine().submit(job(1, 1000, 1), 0)


@pytest.mark.parametrize(
    ("tokens", "milliseconds"), [(1, 8.2), (512, 20.7), (1024, 33.5), (2048, 60.3), (4096, 126)]
)
def test_cold_prefill_takes_what_it_took_on_the_machine(tokens: int, milliseconds: float) -> None:
    assert HBM.cold(tokens) / PICOSECONDS * 1000 == pytest.approx(milliseconds, rel=0.005)


def test_decoding_alone_takes_what_it_took_on_the_machine() -> None:
    assert (HBM.step + HBM.decode(1, 1000)) / PICOSECONDS * 1000 == pytest.approx(8.3, rel=0.005)


def test_half_the_speed_takes_twice_the_time() -> None:
    slow = HBM.scaled(0.5, 0.25)
    assert slow.cold(3000) == 2 * HBM.cold(3000)
    assert slow.kv_tokens == HBM.kv_tokens // 4


# --- jumping ------------------------------------------------------------------------------------

arrivals = st.lists(
    st.tuples(
        st.integers(0, 3_000),  # milliseconds
        st.integers(1, 6_000),  # prompt
        st.integers(1, 400),  # answer
        st.integers(0, 3),  # whose prefix
    ),
    min_size=1,
    max_size=25,
)


def _story(profile: Profile, requests: list[tuple[int, int, int, int]], *, jump: bool) -> object:
    model = Engine(profile, 512, jump=jump)
    jobs = [
        (
            at * PICOSECONDS // 1000,
            Job(key, tuple(range(100 * whose, 100 * whose + prompt // 512)), prompt, answer),
        )
        for key, (at, prompt, answer, whose) in enumerate(requests, 1)
    ]
    return run(model, *jobs), [one.cached for _, one in jobs]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrivals, st.sampled_from([HBM, OFF.scaled(1, 0.01), HBM.scaled(0.7, 0.02)]))
def test_jumping_over_steps_comes_to_the_same_as_taking_each(
    requests: list[tuple[int, int, int, int]], profile: Profile
) -> None:
    assert _story(profile, requests, jump=True) == _story(profile, requests, jump=False)
