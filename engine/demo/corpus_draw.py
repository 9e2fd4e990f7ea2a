"""Seeded drawing for the corpus: which words and phrasings may be used, and how people mistype.

Every list has a kept-back part (each eighth entry). Training draws from the rest; measuring draws
the phrasings and words from the kept-back part, so that a score tells of sentences never trained
on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from engine.demo.corpus_words import NAMES, SYLLABLES

T = TypeVar("T")
KEPT_BACK_EVERY = 8
KEPT_BACK_AT = 3

OPENERS = (
    "Please: ", "Hey, ", "Hi! ", "Quick question: ", "Hello, ", "So, ", "Ok, ", "Well, ", "Um, ",
    "Hmm. ", "Question: ", "Now, ", "Good. ", "Thanks. ", "And now: ", "Next: ", "I wonder, ",
    "Say, ", "Can you help me? ", "One more: ", "Next question: ", "Tell me: ", "Great! ",
    "Sorry, ",
)  # fmt: skip
CLOSERS = (
    " Thanks!", " Thank you.", " Please.", " please", " Be brief.", " In one sentence.", " thx",
    " :)", " I need it for work.", " I am curious.", " Just wondering.", " Quickly!", " I forgot.",
)  # fmt: skip


@dataclass
class Draw:
    """One seeded source of words and phrasings.

    kept_back: False draws from the trained part of every list, True from the kept-back part.
    """

    seed: int
    kept_back: bool = False
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def any_of(self, items: Sequence[T]) -> T:
        """One entry, all being allowed (facts must be taught whole)."""
        return items[int(self.rng.random() * len(items))]

    def split_of(self, items: Sequence[T]) -> T:
        """One entry of the part of the list that this draw may use."""
        if len(items) < KEPT_BACK_EVERY:
            return self.any_of(items)
        if self.kept_back:
            return self.any_of(items[KEPT_BACK_AT::KEPT_BACK_EVERY])
        index = int(self.rng.random() * len(items))
        return items[index - 1 if index % KEPT_BACK_EVERY == KEPT_BACK_AT else index]

    def weighted(self, table: Sequence[tuple[T, float]]) -> T:
        """One first member, by weight."""
        point = self.rng.random() * sum(weight for _, weight in table)
        for item, weight in table:
            point -= weight
            if point < 0:
                return item
        return table[-1][0]

    def invented(self, low: int = 2, high: int = 4) -> str:
        """A word that does not exist, of `low` to `high` syllables."""
        return "".join(self.any_of(SYLLABLES) for _ in range(self.rng.randint(low, high)))

    def person(self) -> str:
        """A first name; every third is invented, so that names are copied and not recognised."""
        return self.invented(2, 3).capitalize() if self.chance(0.35) else self.split_of(NAMES)

    def as_typed(self, text: str) -> str:
        """The text as a person might type it: other case, missing marks, small talk, slips."""
        if self.chance(0.12):
            text = self.split_of(OPENERS) + (
                text if self.chance(0.5) else text[0].lower() + text[1:]
            )
        if self.chance(0.07):
            text += self.split_of(CLOSERS)
        if self.chance(0.22):
            text = text.lower()
        elif self.chance(0.015):
            text = text.upper()
        if self.chance(0.25):
            text = text.rstrip("?.! ")
        elif self.chance(0.05):
            text = text.rstrip("?. ") + self.any_of(("??", "!", " ?", "...", "?!"))
        if self.chance(0.04) and len(text) > 12:
            text = self._slip(text)
        return text or "?"

    def _slip(self, text: str) -> str:
        at = self.rng.randrange(1, len(text) - 2)
        kind = self.rng.randrange(3)
        if kind == 0:
            return text[:at] + text[at + 1 :]
        if kind == 1:
            return text[:at] + text[at] + text[at:]
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def with_article(noun: str) -> str:
    """The noun with "a" or "an"."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
