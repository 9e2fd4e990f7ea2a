"""A busy engine on a pool that is too small, with clients that come and go at random.

Nobody's answer may depend on it: every greedy answer equals transformers', every seeded one
repeats what the same request said before, aborted ones stop there, and the pool ends empty.
"""

import random
from typing import Any

import pytest

from engine.request import EngineRequest, SamplingParams
from tests.engine.core.oracle import BLOCK, Oracle, prompt_of, request

STEPS = 250
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
SEEDED = SamplingParams(seed=4, top_k=30, top_p=0.9, max_tokens=9, ignore_eos=True, n=2)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scheduling_policy": "priority", "long_prefill_token_threshold": 5},
        {"enable_prefix_caching": False, "attention_backend": "torch_ref"},
    ],
    ids=str,
)
def test_answers_survive_a_crowd(llama: Oracle, settings: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    shared = prompt_of(2 * BLOCK + 1, seed=50)
    prompts = [shared + prompt_of(n, seed=51) for n in (1, 6, 9, 20)] + [prompt_of(3), shared]
    expected = [llama.generate(prompt, 12) for prompt in prompts]
    repeats: dict[tuple[int, int], list[int]] = {}
    core = llama.core(
        num_blocks=14,
        max_model_len=80,
        max_num_seqs=6,
        max_num_batched_tokens=24,
        watermark=0.0,
        **settings,
    )
    said: dict[tuple[str, int], list[int]] = {}
    about: dict[str, tuple[int, SamplingParams]] = {}
    finished = aborted = 0

    def arrive(name: str) -> EngineRequest:
        which = rng.randrange(len(prompts))
        about[name] = (which, rng.choice([GREEDY, SEEDED]))
        return request(name, prompts[which], about[name][1], priority=rng.randrange(3))

    for now in range(10_000):
        if now < STEPS and rng.random() < 0.35:
            core.add(arrive(f"r{now}"))
        if now < STEPS and about and rng.random() < 0.1:
            aborted += len(core.abort(rng.choice(list(about))))
            core.pool.check()
        for output in core.step(float(now)):
            key = (output.request_id, output.index)
            said.setdefault(key, []).extend(output.token_ids)
            if output.finish_reason is None:
                continue
            assert output.finish_reason == "length"
            finished += 1
            which, sampling = about[output.request_id]
            if sampling is GREEDY:
                assert said[key] == expected[which]
            else:
                assert repeats.setdefault((which, output.index), said[key]) == said[key]
        if now >= STEPS and not core.has_work():
            break
    core.pool.check()
    assert core.pool.num_held == 0
    assert core.stats().preemptions > 0
    assert finished > 40
    assert aborted > 0
