"""How long to wait before another attempt: full jitter, or what the endpoint asked for.

Retry n is due at a moment drawn evenly from [0, min(max, base x 2^(n-1))): Envoy 1.40 was observed
to do so; it is the "full jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter.

The wait keeps an endpoint from hearing from the same request again too soon. An endpoint that has
not been asked yet has not said no, so by default there is no wait before it: how many requests
may go elsewhere at one time is the budget's affair.
"""

import math
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from router.core.retry.fields import field

ResetFormat = Literal["seconds", "milliseconds", "unix_timestamp"]

SHORTEST = 0.001
"""Seconds; Envoy ignores a reset header that names no more."""


GRAIN = 0.0125
"""Seconds. A shorter wait is none: drivers look at their timers every 25 ms, as a rule."""


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. ``always``: before an endpoint that was not asked yet, too."""

    base: float = 0.025
    maximum: float = 0.25
    always: bool = False

    def ceiling(self, retry: int) -> float:
        """The longest wait before retry number ``retry``, which counts from 1."""
        return min(self.maximum, self.base * 2.0 ** min(retry - 1, 60))


class RateLimited(msgspec.Struct, frozen=True, kw_only=True):
    """Waits that a response asks for, in the first of ``headers`` that names one.

    What is longer than ``maximum`` seconds is not heeded.
    """

    headers: tuple[tuple[str, ResetFormat], ...] = (("retry-after", "seconds"),)
    maximum: float = 300.0

    def asked(self, lines: bytes) -> float | None:
        """Seconds that a response head asks for; None if it asks for none, or for too many."""
        for name, format_ in self.headers:
            value = field(lines, name)
            seconds = None if value is None else _seconds(value, format_, lines)
            if seconds is not None and SHORTEST < seconds <= self.maximum:
                return seconds
        return None


def _seconds(value: str, format_: ResetFormat, lines: bytes) -> float | None:
    number = _number(value)
    if format_ == "milliseconds":
        return None if number is None else number / 1000.0
    if format_ == "seconds" and number is not None:
        return number
    # A moment, which is measured by the clock of whoever named it: the response's own Date.
    moment = number if format_ == "unix_timestamp" else _date(value)
    sent = _date(field(lines, "date"))
    return None if moment is None or sent is None else moment - sent


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str | None) -> float | None:
    """Unix seconds of an HTTP date."""
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
