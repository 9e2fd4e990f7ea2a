"""From logits to tokens.

Each row goes through: bias, bans and penalties; then greedy argmax or temperature, min-p, top-k,
top-p and one draw. A draw is the inverse of the cumulative distribution at a number in [0, 1)
that depends only on (seed of the choice, position): no generator state exists, so a token does
not depend on what else is in the batch, on preemption or on recomputation. Rows are never mixed,
and rows with a filter take their candidates one by one, for the same reason.
"""

from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from engine.request import SamplingParams, TokenLogprob
from engine.sequence import Sequence

MASK64 = (1 << 64) - 1

CANDIDATES = 1024
"""How many of the likeliest tokens are sorted first for top-p; the full sort is the fallback."""


GREEDY_BELOW = 1e-5
"""Temperatures this low are greedy: dividing by them would overflow float32."""


class Sampled(NamedTuple):
    """The chosen token, or None when the row holds no finite logit; `logprob` if asked for."""

    token: int | None
    logprob: TokenLogprob | None = None


def mix64(value: int) -> int:
    """SplitMix64's output function: a bijection of 64-bit words that scatters neighbours."""
    value = (value + 0x9E3779B97F4A7C15) & MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK64
    return value ^ (value >> 31)


def choice_seed(seed: int, index: int) -> int:
    """The seed of choice `index` of a request seeded with `seed` (any int)."""
    return mix64(mix64(seed & MASK64) ^ index)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for the token at `position`, 53 bits."""
    return (mix64(seed ^ mix64(position)) >> 11) * 2.0**-53


@torch.inference_mode()
def sample(logits: Tensor, sequences: list[Sequence], eos: tuple[int, ...]) -> list[Sampled]:
    """Choose the next token of each of `sequences` from its row of `logits` [S, vocab] float32."""
    raw = logits.cpu()
    shaped = raw
    for i, sequence in enumerate(sequences):
        if _reshapes(sequence):
            if shaped is raw:
                shaped = raw.clone()
            _reshape(shaped[i], sequence, eos)
    best = shaped.max(-1)
    finite = best.values.isfinite().tolist()
    tokens = best.indices.tolist()
    drawn = [
        i for i, s in enumerate(sequences) if s.sampling.temperature >= GREEDY_BELOW and finite[i]
    ]
    for i in drawn:
        sequence = sequences[i]
        tokens[i] = draw(shaped[i], sequence.sampling, uniform(sequence.seed, len(sequence.tokens)))
    results: list[Sampled] = []
    for i, sequence in enumerate(sequences):
        count = sequence.sampling.logprobs
        if not finite[i]:
            results.append(Sampled(None))
        elif count is None:
            results.append(Sampled(tokens[i]))
        else:
            results.append(Sampled(tokens[i], token_logprobs(raw[i], tokens[i], count)))
    return results


def draw(logits: Tensor, params: SamplingParams, u: float) -> int:
    """One token from `logits` [vocab] filtered as `params` says, at the quantile `u` in [0, 1)."""
    probs = (logits / params.temperature).softmax(-1)
    if params.min_p > 0.0:
        probs = probs.where(probs >= params.min_p * probs.max(), 0.0)
    if params.top_k <= 0 and params.top_p >= 1.0:
        return _invert(probs, u)
    vocab = probs.shape[0]
    top_k = min(params.top_k, vocab) if params.top_k > 0 else vocab
    values, ids = probs.topk(min(top_k, CANDIDATES) if top_k > CANDIDATES else top_k)
    if top_k > CANDIDATES and float(values.sum()) < params.top_p * float(probs.sum()):
        values, ids = probs.sort(descending=True, stable=True)
        values, ids = values[:top_k], ids[:top_k]
    elif top_k > CANDIDATES and params.top_p >= 1.0:
        values, ids = probs.topk(top_k)
    if params.top_p < 1.0:
        total = float(values.sum()) if params.top_k > 0 else float(probs.sum())
        before = values.cumsum(0, dtype=torch.float64) - values
        values = values.where(before < params.top_p * total, 0.0)
    return int(ids[_invert(values, u)])


def _invert(weights: Tensor, u: float) -> int:
    """The index at which the running sum of `weights` first exceeds `u` of the total."""
    cumulative = weights.cumsum(0, dtype=torch.float64)
    target = cumulative[-1] * u
    found = int(torch.searchsorted(cumulative, target, right=True))
    return min(found, int(weights.nonzero()[-1]))


def token_logprobs(logits: Tensor, token: int, count: int) -> TokenLogprob:
    """Log-probability of `token` and of the `count` likeliest under raw `logits` [vocab]."""
    logits = logits.float()
    total = logits.logsumexp(-1)
    own = logits[token]
    rank = int((logits > own).sum()) + 1
    top: tuple[tuple[int, float], ...] = ()
    if count:
        values, ids = logits.topk(min(count, logits.shape[0]))
        top = tuple(zip(ids.tolist(), (values - total).tolist(), strict=True))
    return TokenLogprob(token, float(own - total), rank, top)


def _reshapes(sequence: Sequence) -> bool:
    params = sequence.sampling
    return bool(
        params.logit_bias
        or params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or sequence.num_output < params.min_tokens
    )


def _reshape(row: Tensor, sequence: Sequence, eos: tuple[int, ...]) -> None:
    """Apply penalties, bias and the ban on stopping early to `row` [vocab] in place."""
    params = sequence.sampling
    if params.repetition_penalty != 1.0:
        seen = torch.tensor(sorted(set(sequence.tokens)))
        scores = row[seen]
        penalty = params.repetition_penalty
        row[seen] = torch.where(scores > 0, scores / penalty, scores * penalty)
    if (params.presence_penalty or params.frequency_penalty) and sequence.num_output:
        counts = Counter(sequence.tokens[sequence.num_prompt :])
        ids = torch.tensor(list(counts))
        often = torch.tensor(list(counts.values()))
        row[ids] -= params.presence_penalty + params.frequency_penalty * often
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias))
        row[ids] += torch.tensor(list(params.logit_bias.values()))
    if sequence.num_output < params.min_tokens:
        row[list({*eos, *params.stop_token_ids})] = float("-inf")
