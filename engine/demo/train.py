"""Trains the bundled model: `python -m engine.demo.train --tokens 25e6`.

Conversations are drawn endlessly from the corpus, sorted by length within a pool so that batches
waste little padding, and never joined, so that positions mean the same as when serving. Only
answers carry loss. Matrices are trained with Muon (orthogonalised momentum), the embedding and
norms with AdamW. The rate is warmed up, held, and sunk to zero over the last part; the first part
sees short texts only. The same seed, thread count and `--tokens` give the same weights; `--state`
saves everything needed to go on after a stop.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from engine.demo import CHECKPOINT
from engine.demo.corpus import Conversation, conversation, plain_text
from engine.demo.corpus_draw import Draw
from engine.demo.network import Network, save_checkpoint
from engine.demo.tokenizer import END_OF_TEXT, TURN_END, TURN_START

POOL = 768
LONGEST = 1600
SHORT = 256
PLAIN_SHARE = 0.015


@dataclass(frozen=True)
class Batch:
    """ids [batch, length]; flat positions whose next token is an answer's, and that next token."""

    ids: Tensor
    wanted: Tensor
    targets: Tensor


class Encoder:
    """Turns conversations into ids and a mark for each id: does it belong to an answer?"""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.start, self.end, self.stop = (
            tokenizer.encode(control).ids[0] for control in (TURN_START, TURN_END, END_OF_TEXT)
        )
        self.newline = tokenizer.encode("\n").ids
        self.roles = {
            role: [self.start, *tokenizer.encode(f"{role}\n").ids]
            for role in ("system", "user", "assistant")
        }

    def chat(self, made: Conversation) -> tuple[list[int], list[bool]]:
        """ChatML, exactly as the chat template writes it; the last turn's end is the text's end."""
        ids: list[int] = []
        marks: list[bool] = []
        bodies = self.tokenizer.encode_batch_fast([m.content for m in made.messages])
        for message, body in zip(made.messages, bodies, strict=True):
            answer = message.role == "assistant"
            head = self.roles[message.role]
            ids += [*head, *body.ids, self.end, *self.newline]
            marks += [False] * len(head) + [answer] * (len(body.ids) + 1)
            marks += [False] * len(self.newline)
        return ids, marks

    def plain(self, text: str) -> tuple[list[int], list[bool]]:
        """A text outside of any chat."""
        ids = [*self.tokenizer.encode(text).ids, self.stop]
        return ids, [False] * 3 + [True] * (len(ids) - 3)


def batches(encoder: Encoder, seed: int, tokens: int, longest: int) -> Iterator[Batch]:
    """Endless batches of about `tokens` ids each, padding included; longer texts are left out."""
    draw = Draw(seed)
    shuffle = random.Random(seed)
    while True:
        pool = []
        for _ in range(POOL):
            plain = draw.chance(PLAIN_SHARE)
            pool.append(
                encoder.plain(plain_text(draw)) if plain else encoder.chat(conversation(draw))
            )
        pool = sorted(
            (item for item in pool if len(item[0]) <= longest), key=lambda item: len(item[0])
        )
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for item in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(item[0]) > tokens:
                groups.append([])
            groups[-1].append(item)
        shuffle.shuffle(groups)
        yield from (_batch(group, encoder.stop) for group in groups)


def _batch(group: list[tuple[list[int], list[bool]]], pad: int) -> Batch:
    length = max(len(ids) for ids, _ in group) - 1
    rows, wanted, targets = [], [], []
    for row, (ids, marks) in enumerate(group):
        rows.append(ids[:-1] + [pad] * (length - len(ids) + 1))
        for at in range(1, len(ids)):
            if marks[at]:
                wanted.append(row * length + at - 1)
                targets.append(ids[at])
    return Batch(torch.tensor(rows), torch.tensor(wanted), torch.tensor(targets))


def rate_at(progress: float, hold_until: float) -> float:
    """Share of the peak rate: warmed up over the first hundredth, held, then down to zero."""
    if progress < 0.01:
        return progress / 0.01
    if progress < hold_until:
        return 1.0
    return max(0.0, (1.0 - progress) / (1.0 - hold_until))


class Trainer:
    """Network, its two optimisers and how far they are."""

    def __init__(self, *, seed: int, rate: float, dtype: torch.dtype) -> None:
        self.network = Network(seed=seed, dtype=dtype)
        matrices = [
            w for n, w in self.network.named_parameters() if w.dim() == 2 and n != "embedding"
        ]
        others = [w for n, w in self.network.named_parameters() if w.dim() != 2 or n == "embedding"]
        self.rate = rate
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0

    def learn(self, batch: Batch, share: float) -> float:
        """One step at that share of the peak rate; returns the mean loss over answer tokens."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.rate * share
        loss = F.cross_entropy(self.network(batch.ids, batch.wanted), batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        self.tokens += batch.ids.numel()
        return loss.item()

    def save(self, path: Path) -> None:
        """Write all that is needed to go on: replaced in one go, so that a stop cannot tear it."""
        state = {
            "network": self.network.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "progress": (self.step, self.tokens, self.seconds),
        }
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a saved state."""
        state = torch.load(path)
        self.network.load_state_dict(state["network"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["progress"]


def train(options: argparse.Namespace) -> None:
    """Train until the token or time budget is used up, writing checkpoints on the way."""
    torch.set_num_threads(options.threads)
    encoder = Encoder(Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")))
    trainer = Trainer(seed=options.seed, rate=options.rate, dtype=getattr(torch, options.dtype))
    if options.resume:
        trainer.load(options.resume)
    began = time.monotonic() - trainer.seconds
    saved = time.monotonic()
    # A resumed run must not see the conversations of its first part again.
    seed = options.seed + 1 + trainer.step
    short = batches(encoder, seed, options.batch, SHORT)
    full = batches(encoder, seed + 1_000_003, options.batch, LONGEST)
    mean = 0.0
    while True:
        trainer.seconds = time.monotonic() - began
        spent = trainer.tokens / options.tokens if options.tokens else 0.0
        timed = trainer.seconds / (60 * options.minutes) if options.minutes else 0.0
        progress = max(spent, timed)
        if progress >= 1.0:
            break
        source = short if progress < options.short else full
        loss = trainer.learn(next(source), rate_at(progress, options.hold))
        mean = loss if trainer.step == 1 or not mean else 0.98 * mean + 0.02 * loss
        if trainer.step % 25 == 0:
            speed = trainer.tokens / max(trainer.seconds, 1e-9)
            print(
                f"step {trainer.step} tokens {trainer.tokens} {progress:.1%} "
                f"loss {mean:.4f} {speed:.0f} tok/s"
            )
        if time.monotonic() - saved > options.save_every:
            saved = time.monotonic()
            save_checkpoint(trainer.network, options.out)
            if options.state:
                trainer.save(options.state)
    save_checkpoint(trainer.network, options.out)
    if options.state:
        trainer.save(options.state)
    print(
        f"done: {trainer.step} steps, {trainer.tokens} tokens, {trainer.seconds / 60:.1f} minutes"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=float, default=0, help="token budget, padding included")
    parser.add_argument("--minutes", type=float, default=0, help="time budget in minutes")
    parser.add_argument("--batch", type=int, default=4096, help="tokens per step (default 4096)")
    parser.add_argument(
        "--rate", type=float, default=4e-3, help="peak learning rate (default 4e-3)"
    )
    parser.add_argument(
        "--hold", type=float, default=0.6, help="share of the budget before the rate sinks"
    )
    parser.add_argument(
        "--short", type=float, default=0.4, help="share of the budget with short texts only"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of weights and corpus (default 1)"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="checkpoint folder to write")
    parser.add_argument("--state", type=Path, help="file for the full state, to resume from")
    parser.add_argument("--resume", type=Path, help="go on from a file written by --state")
    parser.add_argument(
        "--save-every", type=float, default=120.0, help="seconds between checkpoints"
    )
    options = parser.parse_args()
    if not options.tokens and not options.minutes:
        parser.error("give --tokens or --minutes")
    train(options)


if __name__ == "__main__":
    main()
