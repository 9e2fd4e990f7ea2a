"""Measures the bundled model on conversations it was never trained on: `python -m
engine.demo.evaluate`.

For each task, conversations are drawn from another seed and from the kept-back phrasings and
words; greedy answers are compared with the taught ones letter by letter (stories and jokes vary:
they need only be of the right form). Hand-written questions come on top. Decoding goes through
transformers, an implementation that shares nothing with the training code.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engine.demo import CHECKPOINT
from engine.demo.corpus import Message, conversation
from engine.demo.corpus_draw import Draw
from engine.demo.corpus_facts import JOKES
from engine.demo.corpus_outside import DECLINE
from engine.demo.corpus_turns import MAKERS
from engine.demo.evaluate_questions import INSIDE, OUTSIDE, UNSEEN

Chat = Sequence[Message]
Row = tuple[str, int, int, list[str]]
EVALUATION_SEED = 90_001


class Answerer:
    """Greedy answers of a checkpoint, in batches."""

    def __init__(self, folder: Path = CHECKPOINT, batch: int = 32) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.batch = batch

    def answers(self, chats: Sequence[Chat], limit: int = 200) -> list[str]:
        """One greedy answer, of at most `limit` tokens, to each chat's last message."""
        order = sorted(range(len(chats)), key=lambda at: sum(len(m.content) for m in chats[at]))
        out = [""] * len(chats)
        for begin in range(0, len(order), self.batch):
            group = order[begin : begin + self.batch]
            texts = [
                self.tokenizer.apply_chat_template(
                    [message._asdict() for message in chats[at]],
                    tokenize=False,
                    add_generation_prompt=True,
                )
                for at in group
            ]
            fed = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                made = self.model.generate(
                    input_ids=fed.input_ids,
                    attention_mask=fed.attention_mask,
                    max_new_tokens=limit,
                    do_sample=False,
                )
            tails = self.tokenizer.batch_decode(
                made[:, fed.input_ids.shape[1] :], skip_special_tokens=True
            )
            for at, text in zip(group, tails, strict=True):
                out[at] = text
        return out


def right(task: str, asked: str, wanted: str, got: str) -> bool:
    """Whether an answer counts as right for that task."""
    if task == "outside" or wanted.startswith(DECLINE):
        return got.startswith(DECLINE)
    if task == "joke":
        return got in JOKES
    if task == "story":
        hero = wanted.partition(" called ")[0].rpartition(" ")[2]
        return (
            got.startswith("Once upon a time")
            and (hero in got or hero not in asked.lower())
            and got.endswith(".")
        )
    return got == wanted


def by_task(
    answerer: Answerer, tasks: Sequence[str], each: int, turns: int | None, kept_back: bool
) -> list[Row]:
    """Rows (task, right, asked, misses) over `each` fresh conversations per task."""
    rows = []
    for task in tasks:
        draw = Draw(EVALUATION_SEED, kept_back=kept_back)
        made = [conversation(draw, only=task, turns=turns) for _ in range(each)]
        chats = [m.messages[:-1] for m in made]
        wanted = [m.messages[-1].content for m in made]
        got = answerer.answers(chats)
        misses = [
            f"{chat[-1].content!r} -> {g!r} (wanted {w!r})"
            for chat, w, g in zip(chats, wanted, got, strict=True)
            if not right(task, chat[-1].content, w, g)
        ]
        rows.append((task, each - len(misses), each, misses))
    return rows


def by_hand(answerer: Answerer) -> list[Row]:
    """The same rows for the hand-written questions."""
    rows = []
    for title, checks in (
        ("by hand: outside", tuple((question, DECLINE) for question in OUTSIDE)),
        ("by hand: outside, later", tuple((question, DECLINE) for question in UNSEEN)),
        ("by hand: inside", INSIDE),
    ):
        got = answerer.answers([[Message("user", question)] for question, _ in checks])
        misses = [
            f"{question!r} -> {answer!r}"
            for (question, part), answer in zip(checks, got, strict=True)
            if part not in answer
        ]
        rows.append((title, len(checks) - len(misses), len(checks), misses))
    return rows


def main() -> None:
    """Command line: prints the table."""
    parser = argparse.ArgumentParser(description="Measure the bundled model.")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--each", type=int, default=48, help="conversations per task (default 48)")
    parser.add_argument(
        "--turns", type=int, help="user turns per conversation (default: as in training)"
    )
    parser.add_argument(
        "--misses", type=int, default=0, help="wrong answers to show per row (default 0)"
    )
    parser.add_argument(
        "--trained", dest="kept_back", action="store_false", help="draw from trained phrasings"
    )
    parser.add_argument("--task", action="append", choices=list(MAKERS), help="default: all")
    parser.add_argument(
        "--only-by-hand", action="store_true", help="only the hand-written questions"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    answerer = Answerer(options.checkpoint)
    rows = by_hand(answerer)
    if not options.only_by_hand:
        rows += by_task(
            answerer, options.task or list(MAKERS), options.each, options.turns, options.kept_back
        )
    print("| what | right | of | % |\n|---|---|---|---|")
    for title, good, of, misses in rows:
        print(f"| {title} | {good} | {of} | {good / of:.0%} |")
        for miss in misses[: options.misses]:
            print(f"    {miss}")


if __name__ == "__main__":
    main()
