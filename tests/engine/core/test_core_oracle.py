"""The engine agrees with transformers: logits closely, greedy tokens exactly."""

from collections.abc import Callable

import pytest
import torch

from engine.blocks import BlockTable
from engine.scheduler import Scheduled
from engine.sequence import Sequence
from tests.engine.core.oracle import (
    BLOCK,
    FAMILIES,
    Oracle,
    greedy,
    prompt_of,
    request,
    run,
    tokens_of,
)

LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5)


@pytest.mark.parametrize("backend", ["cpu", "torch_ref"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_equal_transformers(
    oracles: Callable[[str], Oracle], family: str, backend: str
) -> None:
    oracle = oracles(family)
    core = oracle.core(attention_backend=backend)
    prompts = {str(n): prompt_of(n) for n in LENGTHS}
    for name, prompt in prompts.items():
        core.add(request(name, prompt, greedy(48)))
    found = run(core)
    for name, prompt in prompts.items():
        assert tokens_of(found[name, 0]) == oracle.generate(prompt, 48), f"prompt length {name}"
        assert found[name, 0][-1].finish_reason == "length"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", LENGTHS)
def test_logits_equal_transformers(
    oracles: Callable[[str], Oracle], family: str, length: int
) -> None:
    oracle = oracles(family)
    core = oracle.core()
    prompt = prompt_of(length, seed=3)
    sequence = Sequence(request("r", prompt, greedy(1)), order=0, seed=0, max_model_len=256)
    sequence.table = BlockTable()
    sequence.table.extend([9, 10, 4, 77])
    found = core.runner.run([Scheduled(sequence, 0, length)])[0]
    assert torch.max((found - oracle.logits(prompt)[-1]).abs()) <= 2e-4
