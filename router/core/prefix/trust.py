"""Whether the mirror's word is worth anything: what it expected against what engines found.

A mirror can be wrong for good: an engine without prefix caching, a chat template that begins with
the time of day, another router that fills the caches unseen. Its capacity adapts to much of it;
what it does not adapt to shows here, and then least work decides alone until expectations hold.
"""

from typing import Final

KEEP: Final = 0.98
"""What an answer counts for after the next one: the last 50 answers or so decide."""
ENOUGH: Final = 50
"""Answers before anything is said."""
WRONG: Final = 0.25
"""Mean error, as a share of the prompts' tokens, from which the mirror is not believed. Measured on
traces it is 0.02 to 0.06, and 0.1 in the minute after an endpoint was lost."""
RIGHT: Final = 0.1
"""Mean error below which it is believed again."""
PROBATION: Final = 30.0
"""Seconds for which it is not believed at least. While it is not, prompts go anywhere and little is
expected of any endpoint, so that errors are small by themselves."""


class Trust:
    """Of one mirror.

    Attributes:
        believed: picks may rest on the mirror.
        error: mean difference of expected and found tokens, as a share of the prompt.
        answers: that told.
        expected, found: tokens in all.
        lost: how often it ceased to be believed.
    """

    __slots__ = ("_until", "answers", "believed", "error", "expected", "found", "lost", "prompts")

    def __init__(self) -> None:
        self.believed = True
        self.error = 0.0
        self.answers = 0
        self.prompts = 0
        self.expected = 0.0
        self.found = 0
        self.lost = 0
        self._until = 0.0

    def compare(self, expected: float, found: int, prompt: int, now: float) -> None:
        """An answer tells how many tokens of its prompt were cached. ``prompt``: at least 1."""
        self.answers += 1
        self.prompts += prompt
        self.expected += expected
        self.found += found
        weight = max(1.0 - KEEP, 1.0 / self.answers)
        self.error += weight * (min(1.0, abs(expected - found) / prompt) - self.error)
        if self.believed:
            if self.error > WRONG and self.answers >= ENOUGH:
                self.believed = False
                self.lost += 1
                self._until = now + PROBATION
        elif self.error < RIGHT and now >= self._until:
            self.believed = True

    def adopt(self, believed: bool, error: float, answers: int) -> None:
        """What more answers than came here have shown."""
        if answers > self.answers:
            self.believed, self.error = believed, error
            # Enough to go on from, and few enough that this router's own soon count.
            self.answers = max(self.answers, min(answers, ENOUGH))

    def __repr__(self) -> str:
        word = "believed" if self.believed else "not believed"
        return f"<Trust {word} error={self.error:.3f} answers={self.answers}>"
