"""The sampler: the right distribution, the right support, the same draw for the same seed."""

import math
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine import sampler
from engine.request import EngineRequest, SamplingParams, check_sampling
from engine.sampler import choice_seed, draw, sample, token_logprobs, uniform
from engine.sequence import Sequence
from tests.engine.core.oracle import Oracle, prompt_of, request, run, tokens_of

DRAWS = 8_000
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, 1.5])
CHI2_7_999 = 24.32
"""99.9 % quantile of chi-square with 7 degrees of freedom."""


def sequence_of(sampling: SamplingParams, prompt: list[int], output: list[int]) -> Sequence:
    made = Sequence(
        EngineRequest(request_id="r", prompt_token_ids=prompt, sampling=sampling, arrival=0.0),
        order=0,
        seed=choice_seed(sampling.seed or 0, 0),
        max_model_len=100_000,
    )
    made.tokens.extend(output)
    return made


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(**fields)


def counts(sampling: SamplingParams, logits: torch.Tensor = LOGITS) -> list[int]:
    seed = choice_seed(7, 0)
    numbers = [uniform(seed, position) for position in range(DRAWS)]
    tokens = draw(logits.expand(DRAWS, -1), [sampling] * DRAWS, numbers)
    return torch.bincount(torch.tensor(tokens), minlength=logits.shape[0]).tolist()


def _share(low: float, high: float) -> st.SearchStrategy[float]:
    """Any float from `low` to `high`, with those near the ends that float32 cannot hold."""
    ends = [low, high, 5e-324, 1e-46, 1e-30, 1e-5, 1.0 - 2.0**-53]
    usual = st.floats(low, high)
    return usual | st.sampled_from([end for end in ends if low <= end <= high])


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    fields=st.fixed_dictionaries(
        {},
        optional={
            "temperature": _share(0.0, 100.0),
            "top_p": _share(5e-324, 1.0),
            "top_k": st.integers(-1, 10),
            "min_p": _share(0.0, 1.0),
            "presence_penalty": _share(-2.0, 2.0),
            "frequency_penalty": _share(-2.0, 2.0),
            "repetition_penalty": _share(0.01, 100.0),
            "logit_bias": st.dictionaries(st.integers(0, 7), _share(-100.0, 100.0)),
            "min_tokens": st.integers(0, 2),
            "stop_token_ids": st.just((1, 2)),
            "logprobs": st.integers(0, 3),
        },
    ),
    scale=st.sampled_from([1.0, 0.0, 1e4]),
)
def test_nothing_a_request_may_ask_for_fails_the_step(fields: dict[str, Any], scale: float) -> None:
    """All choices share a step, so one that fails it would take the others along."""
    asked = params(**fields)
    check_sampling(asked, vocab_size=8)
    logits = torch.stack([LOGITS * scale, LOGITS])
    other = sequence_of(params(temperature=1.0, seed=3), [0], [])
    (own, others) = sample(logits, [sequence_of(asked, [0, 6], [6, 3]), other], eos=(0,))
    assert own.token in range(8)
    assert others == sample(LOGITS[None], [other], eos=(0,))[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_draws_follow_the_softmax(temperature: float) -> None:
    expected = (LOGITS / temperature).softmax(-1) * DRAWS
    observed = torch.tensor(counts(params(temperature=temperature)))
    assert float(((observed - expected) ** 2 / expected).sum()) < CHI2_7_999


def test_uniform_numbers_are_uniform_and_unrelated_between_seeds() -> None:
    """64 bins over positions, and over consecutive seeds at one position."""
    rows = [
        [uniform(choice_seed(1, 0), position) for position in range(DRAWS)],
        [uniform(choice_seed(seed, 0), 5) for seed in range(DRAWS)],
        [uniform(choice_seed(1, index), 5) for index in range(DRAWS)],
    ]
    for row in rows:
        observed = torch.histc(torch.tensor(row, dtype=torch.float64), 64, 0.0, 1.0)
        assert float(((observed - DRAWS / 64) ** 2 / (DRAWS / 64)).sum()) < 103.4
        assert min(row) >= 0.0
        assert max(row) < 1.0


def test_every_position_is_drawn_anew() -> None:
    """Over equal logits, a sequence that grows has every token equally often."""
    sequence = sequence_of(params(temperature=1.0, seed=3), [0], [])
    drawn: list[int] = []
    for _ in range(DRAWS // 10):
        (sampled,) = sample(torch.zeros(1, 8), [sequence], eos=())
        assert sampled.token is not None
        drawn.append(sampled.token)
        sequence.tokens.append(sampled.token)
    observed = torch.bincount(torch.tensor(drawn), minlength=8)
    expected = len(drawn) / 8
    assert float(((observed - expected) ** 2 / expected).sum()) < CHI2_7_999


def warped(logits: torch.Tensor, fields: dict[str, Any]) -> torch.Tensor:
    """Probabilities after transformers' own warpers, in our order of application."""
    makers = {
        "temperature": TemperatureLogitsWarper,
        "min_p": MinPLogitsWarper,
        "top_k": TopKLogitsWarper,
        "top_p": TopPLogitsWarper,
    }
    scores = logits[None]
    for name, maker in makers.items():
        if name in fields:
            scores = maker(fields[name])(torch.zeros(1, 1, dtype=torch.int64), scores)
    return scores[0].softmax(-1)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": 3},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"top_k": 5, "top_p": 0.6},
        {"temperature": 2.0, "top_k": 6, "top_p": 0.9, "min_p": 0.1},
        {"top_p": 0.01},
        {"top_p": 1e-46},
        {"top_p": 1e-46, "top_k": 3},
        {"min_p": 1.0},
        {"top_k": 1},
    ],
    ids=str,
)
def test_filters_equal_transformers(fields: dict[str, Any]) -> None:
    expected = warped(LOGITS, fields) * DRAWS
    observed = torch.tensor(counts(params(**fields)))
    kept = expected > 0
    assert torch.equal(observed > 0, kept), "exactly the surviving tokens are drawn"
    chi2 = float(((observed - expected) ** 2 / expected)[kept].sum())
    assert chi2 < CHI2_7_999


@pytest.mark.parametrize(
    "fields",
    [{"top_p": 0.3}, {"top_p": 0.99}, {"top_k": 1500}, {"top_k": 1500, "top_p": 0.98}],
    ids=str,
)
def test_filters_of_a_large_vocabulary(fields: dict[str, Any]) -> None:
    """Past the candidates that are sorted first, the support is still exactly transformers'."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4 * sampler.CANDIDATES, generator=generator)
    kept = warped(logits, fields) > 0
    numbers = [i / 200 for i in range(200)] + [1.0 - 2**-53]
    drawn = draw(logits.expand(201, -1), [params(**fields)] * 201, numbers)
    assert all(kept[token] for token in drawn)
    edge = drawn[-1]
    least = int(logits.masked_fill(~kept, math.inf).argmin())
    assert edge == least, "the last survivor is reached at the end of the unit interval"


def test_draws_from_a_wide_vocabulary_follow_the_softmax() -> None:
    """Mass is compared over 32 interleaved classes of tokens, most of them in every chunk."""
    generator = torch.Generator().manual_seed(9)
    width = 5 * sampler.CHUNK + 13
    logits = torch.randn(width, generator=generator) * 2
    classes = torch.arange(width) % 32
    expected = torch.zeros(32).index_add_(0, classes, logits.softmax(-1)) * DRAWS
    found = torch.tensor(counts(params(), logits)).float()
    observed = torch.zeros(32).index_add_(0, classes, found)
    assert float(((observed - expected) ** 2 / expected).sum()) < 61.1
    halves = [slice(0, 2 * sampler.CHUNK), slice(2 * sampler.CHUNK, width)]
    share = float(logits.softmax(-1)[halves[0]].sum())
    assert abs(float(found[halves[0]].sum()) / DRAWS - share) < 0.02


def test_wide_rows_reach_both_ends_and_skip_empty_chunks() -> None:
    logits = torch.full((6 * sampler.CHUNK,), -math.inf)
    alive = [3, 4 * sampler.CHUNK + 1, 6 * sampler.CHUNK - 1]
    logits[alive] = 0.0
    numbers = [0.0, 0.3, 0.34, 0.66, 0.67, 1.0 - 2**-53]
    found = draw(logits.expand(6, -1), [params()] * 6, numbers)
    assert found == [alive[0], alive[0], alive[1], alive[1], alive[2], alive[2]]


def test_rows_are_drawn_as_if_alone() -> None:
    """Every mixture of filters at once, with bfloat16-like ties, equals one row at a time."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(40, 3 * sampler.CANDIDATES, generator=generator).bfloat16().float()
    kinds: list[dict[str, Any]] = [
        {},
        {"top_k": 7},
        {"top_p": 0.5},
        {"top_p": 0.999},
        {"top_k": sampler.CANDIDATES, "top_p": 0.9},
        {"top_k": 2000},
        {"top_k": 100_000, "top_p": 0.8},
        {"min_p": 0.3},
        {"min_p": 0.001, "top_p": 0.7, "temperature": 0.4},
    ]
    sampling = [params(**kinds[i % len(kinds)]) for i in range(40)]
    numbers = [uniform(5, i) for i in range(40)]
    alone = [draw(logits[i : i + 1], [sampling[i]], [numbers[i]])[0] for i in range(40)]
    assert draw(logits, sampling, numbers) == alone


def test_repetition_penalty_equals_transformers() -> None:
    sequence = sequence_of(params(repetition_penalty=1.4, temperature=0.0), [0, 6], [6, 3])
    row = LOGITS.clone()
    sampler._reshape(row, sequence, ())
    processor = RepetitionPenaltyLogitsProcessor(1.4)
    expected = processor(torch.tensor([[0, 6, 6, 3]]), LOGITS[None].clone())[0]
    assert torch.allclose(row, expected)


def test_presence_and_frequency_count_the_output_only() -> None:
    sampling = params(presence_penalty=0.5, frequency_penalty=0.25, temperature=0.0)
    row = LOGITS.clone()
    sampler._reshape(row, sequence_of(sampling, [0, 1], [2, 2, 2, 7]), ())
    expected = LOGITS - torch.tensor([0, 0, 0.5 + 0.75, 0, 0, 0, 0, 0.5 + 0.25])
    assert torch.allclose(row, expected)


@pytest.mark.parametrize(
    ("fields", "output", "expected"),
    [
        ({}, [], 0),
        ({"logit_bias": {0: -100.0}}, [], 7),
        ({"logit_bias": {6: 100.0}}, [], 6),
        ({"min_tokens": 2}, [1], 7),
        ({"min_tokens": 2}, [1, 1], 0),
        ({"min_tokens": 2, "stop_token_ids": (7,)}, [1], 1),
        ({"presence_penalty": 2.0}, [0, 7], 1),
        ({"repetition_penalty": 8.0}, [0], 7),
        ({"temperature": 1e-30}, [], 0),
    ],
)
def test_greedy_after_reshaping(fields: dict[str, Any], output: list[int], expected: int) -> None:
    """Token 0 is the likeliest and also the model's end of sequence; then come 7, 1, 2."""
    sequence = sequence_of(params(**{"temperature": 0.0, **fields}), [4], output)
    found = sample(LOGITS[None], [sequence], (0,))[0]
    assert found.token == expected


def test_logprobs_are_of_the_raw_distribution() -> None:
    sampling = params(temperature=0.0, logprobs=3, logit_bias={5: 50.0})
    found = sample(LOGITS[None], [sequence_of(sampling, [1], [])], ())[0]
    raw = LOGITS.log_softmax(-1)
    assert found.token == 5
    assert found.logprob is not None
    assert found.logprob.logprob == pytest.approx(float(raw[5]), abs=1e-6)
    assert found.logprob.rank == 7
    assert [token for token, _ in found.logprob.top] == [0, 7, 1]
    assert found.logprob.top[1][1] == pytest.approx(float(raw[7]), abs=1e-6)
    assert token_logprobs(LOGITS, 0, 0).top == ()


def test_a_broken_row_does_not_spoil_its_neighbours() -> None:
    rows = torch.stack([LOGITS, torch.full_like(LOGITS, math.nan), LOGITS])
    sequences = [sequence_of(params(seed=1), [0], []) for _ in range(3)]
    first, broken, last = sample(rows, sequences, ())
    assert broken.token is None
    assert first.token == last.token is not None


MIXED = [
    params(seed=11, max_tokens=12, ignore_eos=True),
    params(seed=12, max_tokens=12, ignore_eos=True, top_p=0.9, temperature=1.3),
    params(seed=13, max_tokens=12, ignore_eos=True, top_k=20, min_p=0.01, n=3),
    params(seed=14, max_tokens=12, ignore_eos=True, frequency_penalty=0.5, logprobs=2),
    params(temperature=0.0, max_tokens=12, ignore_eos=True, repetition_penalty=1.2),
]


def test_seeded_tokens_do_not_depend_on_the_batch(llama: Oracle) -> None:
    """Each alone on a fresh engine; all together; together on a pool too small for all."""
    alone: dict[tuple[str, int], list[int]] = {}
    for i, sampling in enumerate(MIXED):
        core = llama.core()
        core.add(request(str(i), prompt_of(9 + i), sampling))
        alone |= {key: tokens_of(found) for key, found in run(core).items()}
    for settings in ({}, {"num_blocks": 9, "max_model_len": 64, "watermark": 0.0}):
        core = llama.core(**settings)
        for i, sampling in enumerate(MIXED):
            core.add(request(str(i), prompt_of(9 + i), sampling))
        together = {key: tokens_of(found) for key, found in run(core).items()}
        assert together == alone
        if settings:
            assert core.stats().preemptions > 0
    choices = [tuple(alone["2", index]) for index in range(3)]
    assert len(set(choices)) == 3, "choices of one request draw differently"


def test_unseeded_requests_differ_but_an_engine_repeats_itself(llama: Oracle) -> None:
    def both() -> list[list[int]]:
        core = llama.core(seed=5)
        for name in ("a", "b"):
            core.add(request(name, prompt_of(9), params(max_tokens=12, ignore_eos=True)))
        found = run(core)
        return [tokens_of(found[name, 0]) for name in ("a", "b")]

    first = both()
    assert first[0] != first[1]
    assert both() == first
