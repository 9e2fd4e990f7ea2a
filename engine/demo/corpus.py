"""Endless training conversations for the bundled model, drawn from a seed.

A conversation is a list of chat messages. It is written turn by turn: a task (a fact, a
definition, a sum, a message outside of what is taught, ...) is drawn by weight, and what was said
before is kept in `Chat`, so that later turns can lean on it ("and of Spain?", "why?", "what is my
name?"). All text comes from the `corpus_*` modules beside this one; nothing is read from disk or
network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.demo.corpus_draw import Draw
from engine.demo.corpus_system import system_prompt
from engine.demo.corpus_turns import TASKS, Chat, story

TURNS: tuple[tuple[int, float], ...] = (
    (1, 0.34), (2, 0.18), (3, 0.13), (4, 0.11), (5, 0.07), (6, 0.06), (7, 0.04), (8, 0.03),
    (12, 0.025), (16, 0.01), (24, 0.005),
)  # fmt: skip
# Sentences of system prompt (0 = none): about 12 tokens for one line, up to some 700 tokens.
SYSTEM: tuple[tuple[int, float], ...] = (
    (0, 0.56), (1, 0.26), (4, 0.06), (8, 0.055), (16, 0.04), (32, 0.02), (60, 0.005),
)  # fmt: skip


class Message(NamedTuple):
    """One chat message; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass
class Conversation:
    """Messages, with the task that made each assistant message (for measuring)."""

    messages: list[Message] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)


def conversation(draw: Draw, *, only: str | None = None, turns: int | None = None) -> Conversation:
    """Draw one conversation.

    only: a task of `TASKS` that the last turn must have.
    turns: number of user turns (default: drawn).
    """
    made = Conversation()
    chat = Chat(draw)
    sentences = draw.weighted(SYSTEM)
    if sentences:
        text, chat.name = system_prompt(draw, sentences)
        made.messages.append(Message("system", text))
    count = turns if turns is not None else draw.weighted(TURNS)
    for turn in range(count):
        task = only if only and turn == count - 1 else draw.weighted(TASKS)
        asked, answer = chat.take(task)
        made.messages += [Message("user", asked), Message("assistant", answer)]
        made.tasks.append(task)
    return made


def conversations(seed: int) -> Iterator[Conversation]:
    """The endless training stream of one seed: the same seed gives the same conversations."""
    draw = Draw(seed)
    while True:
        yield conversation(draw)


def plain_text(draw: Draw) -> str:
    """A text outside of any chat, for the completions endpoint: a story."""
    return story(draw, draw.any_of(("fox", "cat", "robot", "dragon", "mouse", "king", "owl")), None)
