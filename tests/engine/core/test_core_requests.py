"""One request's life in the core: admission, ends of every kind, order, accounting, refusals."""

import math
from typing import Any

import pytest
import torch

from engine.config import ConfigError
from engine.core import EngineCore
from engine.request import EngineRequest, RequestError, SamplingParams
from tests.engine.core.oracle import (
    BLOCK,
    VOCAB,
    Oracle,
    greedy,
    prompt_of,
    request,
    run,
    tokens_of,
)


@pytest.fixture
def core(llama: Oracle) -> EngineCore:
    return llama.core(max_model_len=128)


@pytest.mark.parametrize(
    ("prompt", "fields", "param", "words"),
    [
        ([], {}, "prompt", "at least one token"),
        ([1] * 128, {}, "prompt", "maximum context length is 128 tokens"),
        ([1] * 100, {"max_tokens": 29}, "max_tokens", "has 100 and max_tokens asks for 29"),
        ([VOCAB], {}, "prompt", "outside 0 to 198"),
        ([-1], {}, "prompt", "outside 0 to 198"),
        ([1], {"n": 0}, "n", "between 1 and 128"),
        ([1], {"n": 129}, "n", "between 1 and 128"),
        ([1], {"max_tokens": 0}, "max_tokens", "at least 1"),
        ([1], {"min_tokens": -1}, "min_tokens", "at least 0"),
        ([1], {"min_tokens": 3, "max_tokens": 2}, "min_tokens", "above max_tokens"),
        ([1], {"temperature": -0.1}, "temperature", "between 0 and 100"),
        ([1], {"temperature": math.nan}, "temperature", "between 0 and 100"),
        ([1], {"top_p": 0.0}, "top_p", "above 0 and at most 1"),
        ([1], {"top_p": 1.1}, "top_p", "above 0 and at most 1"),
        ([1], {"top_k": -2}, "top_k", "at least -1"),
        ([1], {"min_p": 1.5}, "min_p", "between 0 and 1"),
        ([1], {"presence_penalty": 2.1}, "presence_penalty", "between -2 and 2"),
        ([1], {"frequency_penalty": -3.0}, "frequency_penalty", "between -2 and 2"),
        ([1], {"repetition_penalty": 0.0}, "repetition_penalty", "between 0.01"),
        ([1], {"logprobs": 21}, "logprobs", "between 0 and 20"),
        ([1], {"prompt_logprobs": -1}, "prompt_logprobs", "between 0 and 20"),
        ([1], {"stop_token_ids": (VOCAB,)}, "stop_token_ids", "ids 0 to 198"),
        ([1], {"stop_token_ids": (1,) * 257}, "stop_token_ids", "the limit is 256"),
        ([1], {"logit_bias": {VOCAB: 1.0}}, "logit_bias", "ids 0 to 198"),
        ([1], {"logit_bias": {1: 101.0}}, "logit_bias", "between -100 and 100"),
    ],
)
def test_bad_requests_are_named(
    core: EngineCore, prompt: list[int], fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        core.add(request("r", prompt, SamplingParams(**fields)))
    assert caught.value.param == param
    assert not core.has_work()
    assert core.abort("r") == []


def test_a_request_id_is_used_once_at_a_time(core: EngineCore) -> None:
    core.add(request("r", [1], greedy(1)))
    with pytest.raises(RequestError, match="already in use"):
        core.add(request("r", [2], greedy(1)))
    run(core)
    core.add(request("r", [2], greedy(1)))


def test_abort_frees_blocks_before_it_returns(core: EngineCore) -> None:
    """Running, half-prefilled, waiting: gone at once; the others go on undisturbed."""
    core.add(request("running", prompt_of(20), greedy(50)))
    core.step(0.0)
    held = core.pool.num_held
    core.add(request("other", prompt_of(30), greedy(5)))
    core.step(0.0)
    core.add(request("waiting", prompt_of(25), greedy(5)))
    assert [output.finish_reason for output in core.abort("waiting")] == ["abort"]
    ended = core.abort("running")
    assert [(o.request_id, o.finish_reason, o.token_ids) for o in ended] == [
        ("running", "abort", [])
    ]
    assert held == 3
    assert core.pool.num_held == 4, "only the other's 31 tokens"
    assert core.abort("running") == []
    assert core.abort("never seen") == []
    found = run(core)
    assert set(found) == {("other", 0)}
    assert core.pool.num_held == 0


def test_abort_of_half_a_prompt(llama: Oracle) -> None:
    core = llama.core(max_num_seqs=2, max_num_batched_tokens=10)
    core.add(request("r", prompt_of(60), greedy(5)))
    assert core.step(0.0) == []
    assert core.stats().last_step_tokens == 10
    core.abort("r")
    assert core.pool.num_held == 0
    assert not core.has_work()


def test_abort_of_one_choice_leaves_the_others(llama: Oracle, core: EngineCore) -> None:
    core.add(request("r", prompt_of(20), greedy(8, n=3)))
    core.step(0.0)
    core.step(0.0)
    assert [o.index for o in core.abort("r", index=0)] == [0]
    found = run(core)
    assert sorted(found) == [("r", 1), ("r", 2)]
    wanted = llama.generate(prompt_of(20), 8)
    assert tokens_of(found["r", 2]) == wanted[1:]
    assert core.pool.num_held == 0


def test_choices_survive_the_abort_of_the_first_before_it_ran(llama: Oracle) -> None:
    core = llama.core()
    core.add(request("r", prompt_of(20), greedy(8, n=2)))
    core.abort("r", index=0)
    found = run(core)
    assert tokens_of(found["r", 1]) == llama.generate(prompt_of(20), 8)


def test_ends(llama: Oracle) -> None:
    """Length, a stop token of the request, the model's own end, and its suppression."""
    prompt = prompt_of(12)
    wanted = llama.generate(prompt, 30)
    stop = wanted[4]
    upto = wanted[: wanted.index(stop) + 1]
    core = llama.core(max_model_len=32)
    cases = {
        "length": SamplingParams(temperature=0.0, max_tokens=3),
        "stop token": SamplingParams(temperature=0.0, max_tokens=20, stop_token_ids=(stop,)),
        "room": SamplingParams(temperature=0.0, ignore_eos=True),
    }
    for name, sampling in cases.items():
        core.add(request(name, prompt, sampling))
    found = run(core)
    ends = {
        name: (tokens_of(o), o[-1].finish_reason, o[-1].stop_reason)
        for (name, _), o in found.items()
    }
    assert ends == {
        "length": (wanted[:3], "length", None),
        "stop token": (upto, "stop", stop),
        "room": (wanted[:20], "length", None),
    }


@pytest.mark.parametrize(
    ("ignored", "min_tokens", "count", "reason"),
    [(False, 0, 1, "stop"), (True, 0, 4, "length"), (False, 3, 3, "stop")],
)
def test_end_of_sequence(
    core: EngineCore, ignored: bool, min_tokens: int, count: int, reason: str
) -> None:
    """A bias makes the end-of-sequence token (198) the likeliest always."""
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=4,
        ignore_eos=ignored,
        min_tokens=min_tokens,
        logit_bias={198: 100.0},
    )
    core.add(request("r", prompt_of(5), sampling))
    outputs = run(core)["r", 0]
    # min_tokens bans the end while fewer are out, so the third is the first that may end it.
    tokens = tokens_of(outputs)
    assert outputs[-1].finish_reason == reason
    assert outputs[-1].stop_reason is None
    assert tokens[-1] == 198
    assert len(tokens) == (count if not min_tokens else min_tokens + 1)


def test_logprobs_of_output_and_prompt(llama: Oracle) -> None:
    """Against transformers' log-softmax at every position, in chunks, twice (no cached prefix)."""
    prompt = prompt_of(21)
    core = llama.core(max_num_seqs=2, max_num_batched_tokens=8)
    sampling = SamplingParams(
        temperature=0.0, max_tokens=3, ignore_eos=True, logprobs=2, prompt_logprobs=1, n=2
    )
    for name in ("cold", "warm"):
        core.add(request(name, prompt, sampling))
        found = run(core)
        outputs = found[name, 0]
        tokens = prompt + tokens_of(outputs)
        expected = llama.logits(tokens).log_softmax(-1)
        scored = outputs[0].prompt_logprobs
        assert scored is not None
        assert scored[0] is None
        for position, entry in enumerate(scored[1:], start=1):
            assert entry is not None
            row = expected[position - 1]
            assert entry.token_id == prompt[position]
            assert entry.logprob == pytest.approx(float(row[prompt[position]]), abs=1e-4)
            assert entry.rank == int((row > row[prompt[position]]).sum()) + 1
            assert entry.top[0][0] == int(row.argmax())
        for i, output in enumerate(outputs):
            assert output.logprobs is not None
            row = expected[len(prompt) + i - 1]
            values, ids = row.topk(2)
            assert [token for token, _ in output.logprobs[0].top] == ids.tolist()
            assert [p for _, p in output.logprobs[0].top] == pytest.approx(
                values.tolist(), abs=1e-4
            )
        assert all(o.prompt_logprobs is None for o in [*outputs[1:], *found[name, 1]])
        assert outputs[0].num_cached_tokens == 0


def test_priority_goes_first(llama: Oracle) -> None:
    def order(policy: str) -> list[str]:
        core = llama.core(scheduling_policy=policy, max_num_seqs=1)
        for name, priority in (("low", 5), ("high", -1), ("middle", 2), ("high too", -1)):
            core.add(request(name, prompt_of(5), greedy(2), priority=priority))
        return list(dict.fromkeys(name for name, _ in run(core)))

    assert order("fcfs") == ["low", "high", "middle", "high too"]
    assert order("priority") == ["high", "high too", "middle", "low"]


def test_decodes_are_not_held_up_by_a_long_prompt(llama: Oracle) -> None:
    """Every step gives the running stream its token while a prompt is computed in chunks."""
    core = llama.core(max_num_seqs=4, max_num_batched_tokens=16)
    core.add(request("stream", prompt_of(5), greedy(40)))
    core.step(0.0)
    core.add(request("long", prompt_of(100), greedy(2)))
    for _ in range(6):
        assert [o.request_id for o in core.step(0.0)] == ["stream"]
        assert core.stats().last_step_tokens == 16
    assert {o.request_id for o in core.step(0.0)} == {"stream", "long"}


def test_a_prompt_waits_for_the_blocks_that_running_ones_still_need(llama: Oracle) -> None:
    """There is room for it now, but not for both once the first has been computed."""
    core = llama.core(
        num_blocks=10,
        max_model_len=10 * BLOCK,
        max_num_seqs=4,
        max_num_batched_tokens=8,
        long_prefill_token_threshold=4,
        watermark=0.0,
    )
    core.add(request("first", prompt_of(6 * BLOCK - 1), greedy(1)))
    core.step(0.0)
    assert core.pool.num_held == 1
    core.add(request("second", prompt_of(5 * BLOCK, seed=1), greedy(1)))
    found = run(core)
    assert {name for name, _ in found} == {"first", "second"}
    assert core.stats().preemptions == 0


@pytest.mark.parametrize(("policy", "stays"), [("fcfs", "first"), ("priority", "second")], ids=str)
def test_the_last_in_line_gives_up_its_blocks(llama: Oracle, policy: str, stays: str) -> None:
    core = llama.core(
        num_blocks=5, max_model_len=5 * BLOCK, watermark=0.0, scheduling_policy=policy
    )
    core.add(request("first", prompt_of(BLOCK), greedy(3 * BLOCK), priority=1))
    core.add(request("second", prompt_of(BLOCK, seed=1), greedy(3 * BLOCK), priority=0))
    ends: list[str] = []
    while core.has_work():
        for output in core.step(0.0):
            if output.finish_reason is not None:
                ends.append(output.request_id)
        if core.stats().preemptions and not ends:
            assert [s.request.request_id for s in core.scheduler.running] == [stays]
    assert core.stats().preemptions > 0
    assert ends[0] == stays


def test_admission_leaves_the_running_ones_room_to_grow(llama: Oracle) -> None:
    core = llama.core(num_blocks=10, max_model_len=10 * BLOCK, watermark=0.5)
    core.add(request("first", prompt_of(BLOCK), greedy(3)))
    core.add(request("second", prompt_of(5 * BLOCK, seed=1), greedy(3)))
    core.step(0.0)
    stats = core.stats()
    assert (stats.num_running, stats.num_waiting) == (1, 1)
    # With nobody beside it there is nobody to leave room for.
    assert {name for name, _ in run(core)} == {"first", "second"}


def test_stats_follow_a_request(core: EngineCore) -> None:
    prompt = prompt_of(3 * BLOCK)
    assert (core.stats().num_blocks, core.stats().block_size) == (128, BLOCK)
    core.add(request("r", prompt, greedy(4)))
    assert (core.stats().num_waiting, core.stats().num_running) == (1, 0)
    core.step(0.0)
    stats = core.stats()
    assert (stats.num_waiting, stats.num_running) == (0, 1)
    assert stats.kv_cache_usage == 3 / 128
    assert (stats.prompt_tokens, stats.generation_tokens) == (24, 1)
    run(core)
    core.add(request("again", prompt, greedy(1)))
    assert run(core)["again", 0][0].num_cached_tokens == 2 * BLOCK
    stats = core.stats()
    assert (stats.prefix_cache_queries, stats.prefix_cache_hits) == (48, 16)
    assert (stats.num_running, stats.num_waiting, stats.kv_cache_usage) == (0, 0, 0.0)
    assert (stats.prompt_tokens, stats.generation_tokens) == (48, 5)


def test_a_failing_model_ends_its_batch_and_not_the_engine(
    llama: Oracle, core: EngineCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.add(request("r", prompt_of(9), greedy(4)))
    with monkeypatch.context() as patch:
        patch.setattr(core.runner.decoder, "forward", _explode)
        ended = core.step(0.0)
    assert [(o.request_id, o.finish_reason) for o in ended] == [("r", "error")]
    assert core.pool.num_held == 0
    core.add(request("r", prompt_of(9), greedy(4)))
    assert tokens_of(run(core)["r", 0]) == llama.generate(prompt_of(9), 4)


def _explode(*_: object) -> torch.Tensor:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"block_size": 24}, "block_size"),
        ({"block_size": 0}, "block_size"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"max_model_len": 257}, "max_model_len"),
        ({"num_blocks": 4, "max_model_len": 33}, "max_model_len"),
        ({"max_num_batched_tokens": 31}, "max_num_batched_tokens"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 64}, "max_num_batched_tokens"),
        ({"num_blocks": None, "kv_cache_memory_bytes": 100}, "kv_cache_memory_bytes"),
        ({"watermark": 1.0}, "watermark"),
        ({"long_prefill_token_threshold": -1}, "long_prefill_token_threshold"),
        ({"max_step_seconds": 0.0}, "max_step_seconds"),
        pytest.param(
            {"device": "cuda"},
            "device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
    ids=str,
)
def test_bad_settings_are_named(llama: Oracle, settings: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError) as caught:
        llama.core(**settings)
    assert caught.value.param == param


def test_cache_size_from_memory(llama: Oracle) -> None:
    """A block of 8 tokens x 3 layers x (k + v) x 2 heads x 8 features x 4 bytes is 3 KiB."""
    core = llama.core(num_blocks=None, kv_cache_memory_bytes=10 * 3072 + 100)
    assert core.stats().num_blocks == 10
    assert core.max_model_len == 80
    assert llama.core(num_blocks=None, max_num_seqs=2).stats().num_blocks == 2 * 256 / BLOCK


def test_repr_shows_the_state(core: EngineCore) -> None:
    core.add(
        EngineRequest(request_id="r", prompt_token_ids=[1, 2], sampling=greedy(3), arrival=1.0)
    )
    assert repr(core) == (
        "<EngineCore <Scheduler 0 running, 1 waiting, "
        "<BlockPool 0 held, 0 cached free, 128 clean>>>"
    )
    core.step(0.0)
    assert repr(core.scheduler.running[0]) == "<Sequence r/0 running 2/3 tokens, 1 blocks>"
