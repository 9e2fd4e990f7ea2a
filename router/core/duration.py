"""Durations as operators write them, ``250ms`` or ``1m30s``: a float of seconds that reads itself.

In the core because balancers' configuration lives beside them; the other quantities are in
``router.config.units``.
"""

import re
from typing import ClassVar, Self

MAX_DURATION = 366 * 24 * 3600.0
"""A longer time limit is a slip of the pen, and no clock arithmetic is tested for it."""

_DURATION_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|h|m|s)", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_UNIT_ORDER = ("h", "m", "s", "ms")


class Duration(float):
    """Seconds. Written with units h, m, s, ms, which may follow one another: ``1m30s``."""

    pattern: ClassVar[str] = r"^(0|(\d+(\.\d+)?(ms|h|m|s))+)$"
    example: ClassVar[str] = "250ms, 5s, 1m30s or 1h"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        if text == "0":
            return cls(0)
        if not _DURATION.fullmatch(text):
            raise ValueError(f"expected a duration such as {cls.example}, got {text!r}")
        parts = _DURATION_PART.findall(text)
        units = [_UNIT_ORDER.index(unit) for _, unit in parts]
        if units != sorted(set(units)):
            raise ValueError(f"units of a duration go from large to small, each once: {text!r}")
        seconds = round(sum(float(number) * _SECONDS[unit] for number, unit in parts), 6)
        if seconds > MAX_DURATION:
            raise ValueError(f"a duration is at most {MAX_DURATION / 3600:.0f}h, got {text!r}")
        return cls(seconds)

    def __str__(self) -> str:
        micros = round(self * 1e6)
        if micros % 1000:
            return f"{micros / 1e6:.6f}".rstrip("0") + "s"
        millis = micros // 1000
        words = []
        for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
            count, millis = divmod(millis, size)
            if count:
                words.append(f"{count}{unit}")
        return "".join(words) or "0s"


class Interval(Duration):
    """A duration that cannot be 0."""

    pattern: ClassVar[str] = r"^(\d+(\.\d+)?(ms|h|m|s))+$"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        duration = super().parse(text)
        if duration < 0.001:
            raise ValueError(f"must be at least 1ms, got {text!r}")
        return duration
