"""From logits to tokens.

Each row goes through: bias, bans and penalties; then greedy argmax or temperature, min-p, top-k,
top-p and one draw. A draw is the inverse of the cumulative distribution at a number in [0, 1)
that depends only on (seed of the choice, position): no generator state exists, so a token does
not depend on what else is in the batch, on preemption or on recomputation. No operation mixes rows.
"""

from collections import Counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.request import SamplingParams, TokenLogprob
from engine.sequence import Sequence

MASK64 = (1 << 64) - 1

CANDIDATES = 1024
"""How many of the likeliest tokens are sorted first for top-p; the full sort is the fallback."""


CHUNK = 512
BELOW_ONE = 1.0 - 2.0**-53

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
    if drawn:
        chosen = [sequences[i] for i in drawn]
        numbers = [uniform(s.seed, len(s.tokens)) for s in chosen]
        found = draw(shaped[drawn], [s.sampling for s in chosen], numbers)
        for i, token in zip(drawn, found, strict=True):
            tokens[i] = token
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


def draw(logits: Tensor, params: list[SamplingParams], numbers: list[float]) -> list[int]:
    """A token for each row of `logits` [R, vocab], filtered as the row's `params` say.

    `numbers` in [0, 1) pick the quantile. Rows that sort the same number of candidates share
    the tensor operations, none of which mixes rows.
    """
    probs = (logits / torch.tensor([p.temperature for p in params])[:, None]).softmax(-1)
    if any(p.min_p > 0.0 for p in params):
        floor = torch.tensor([p.min_p for p in params])[:, None] * probs.amax(-1, keepdim=True)
        probs.masked_fill_(probs < floor, 0.0)
    vocab = probs.shape[1]
    groups: dict[int | None, list[int]] = {}
    for i, p in enumerate(params):
        groups.setdefault(_width(p, vocab), []).append(i)
    tokens = [0] * len(params)
    for width, rows in groups.items():
        u = torch.tensor([numbers[i] for i in rows], dtype=torch.float64)
        part = probs[rows]
        if width is None:
            found = _invert(part, u)
        else:
            found = _draw_filtered(part, [params[i] for i in rows], u, width)
        for i, token in zip(rows, found.tolist(), strict=True):
            tokens[i] = token
    return tokens


def _width(params: SamplingParams, vocab: int) -> int | None:
    """How many of the likeliest tokens to sort; None when no filter needs their order."""
    if 0 < params.top_k < vocab:
        return params.top_k
    return min(CANDIDATES, vocab) if params.top_p < 1.0 else None


def _draw_filtered(probs: Tensor, params: list[SamplingParams], u: Tensor, width: int) -> Tensor:
    """Top-k, then top-p of what that leaves, then the draw, all on the `width` likeliest.

    Without a top-k, top-p may reach past them; such a row is then sorted whole.
    """
    vocab = probs.shape[1]
    values, ids = probs.topk(width)
    top_p = torch.tensor([p.top_p for p in params])
    limited = torch.tensor([0 < p.top_k < vocab for p in params])
    mass = values.sum(-1)
    wanted = top_p * torch.where(limited, mass, probs.sum(-1))
    before = values.cumsum(-1, dtype=torch.float64) - values
    cut = (before >= wanted[:, None]) & (top_p < 1.0)[:, None]
    # The likeliest token stays however small top_p is, which float32 may round to 0.
    cut[:, 0] = False
    found = ids.gather(1, _invert(values.masked_fill(cut, 0.0), u)[:, None]).squeeze(1)
    short = (mass < wanted) & ~limited
    if width < vocab and bool(short.any()):
        rows = short.nonzero().flatten()
        again = [params[i] for i in rows.tolist()]
        found[rows] = _draw_filtered(probs[rows], again, u[rows], vocab)
    return found


def _invert(weights: Tensor, u: Tensor) -> Tensor:
    """Per row, the first index where the running sum of `weights` exceeds `u` of the total.

    Wide rows are summed in chunks first and searched within one chunk only, which spares a
    double-precision running sum over the whole vocabulary.
    """
    rows, width = weights.shape
    if width <= 2 * CHUNK:
        return _search(weights, u)[0]
    chunks = F.pad(weights, (0, -width % CHUNK)).view(rows, -1, CHUNK)
    chunk, rest = _search(chunks.sum(-1), u)
    inside, _ = _search(chunks[torch.arange(rows), chunk], rest)
    return chunk * CHUNK + inside


def _search(weights: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Index per row as in `_invert`, and how far into its weight the target lies, in [0, 1).

    The target is kept just below the total, so the index found always has a weight of its own.
    """
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    target = torch.minimum(total * u, torch.nextafter(total, torch.zeros_like(total)))[:, None]
    index = torch.searchsorted(cumulative, target, right=True)
    own = weights.gather(1, index).double()
    rest = (target - (cumulative.gather(1, index) - own)) / own
    return index.squeeze(1), rest.squeeze(1).clamp(0.0, BELOW_ONE)


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
