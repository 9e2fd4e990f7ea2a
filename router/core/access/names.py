"""Names and globs: the models that a tenant may use, and the certificates it is known by."""

import fnmatch
from collections.abc import Sequence

MAX_REMEMBERED = 1024
"""Answers kept per set; clients choose what is asked, so all are forgotten when there are more."""


class NameSet:
    """Names and patterns (``*`` and ``?``), any of which permits a name.

    Args:
        patterns: as in the configuration; comparison is case-sensitive.
    """

    __slots__ = ("_remembered", "patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._remembered: dict[str, bool] = {}

    def permits(self, name: str) -> bool:
        answer = self._remembered.get(name)
        if answer is None:
            answer = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[name] = answer
        return answer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameSet) and other.patterns == self.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def __repr__(self) -> str:
        return f"<NameSet {' '.join(self.patterns)}>"


class BothSets(NameSet):
    """What two sets permit alike: a tenant's, narrowed by its token."""

    __slots__ = ("_other",)

    def __init__(self, one: NameSet, other: NameSet) -> None:
        super().__init__(one.patterns)
        self._other = other

    def permits(self, name: str) -> bool:
        return super().permits(name) and self._other.permits(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BothSets) and super().__eq__(other) and other._other == self._other

    def __hash__(self) -> int:
        return hash((self.patterns, self._other))

    def __repr__(self) -> str:
        return f"<BothSets {' '.join(self.patterns)} and {' '.join(self._other.patterns)}>"
