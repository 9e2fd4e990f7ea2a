"""How many prompt tokens fit in a step of bounded duration.

A prompt chunk holds up the next token of every running stream. The pacer learns two costs from
finished steps, seconds of a step that only decodes and seconds per prompt token on top, as moving
averages, and divides what is left of the limit. It has no clock: the core tells it durations.
"""

FIRST_CHUNK = 256
SMALLEST_CHUNK = 16
"""Below this a step's fixed cost outweighs its prompt tokens; the limit gives way instead."""

IDLE_STRETCH = 4
"""With no stream to hold up, a longer step only delays the next arrival or abort, while larger
chunks read the weights less often."""

WEIGHT = 0.3


class StepPacer:
    """`limit` is the wanted step duration in seconds, None for no limit."""

    def __init__(self, limit: float | None, ceiling: int) -> None:
        self._limit = limit
        self._ceiling = ceiling
        self._decode_seconds = 0.0
        self._token_seconds: float | None = None

    def observe(self, seconds: float, *, prefill_tokens: int) -> None:
        """Learn from a step that took `seconds` and computed that many prompt tokens."""
        if seconds <= 0.0:
            return
        if prefill_tokens == 0:
            self._decode_seconds += WEIGHT * (seconds - self._decode_seconds)
            return
        cost = max(seconds - self._decode_seconds, 0.0) / prefill_tokens
        known = self._token_seconds
        self._token_seconds = cost if known is None else known + WEIGHT * (cost - known)

    def budget(self, *, decoding: bool) -> int:
        """Prompt tokens the next step may compute; `decoding` if streams are running."""
        if self._limit is None:
            return self._ceiling
        if self._token_seconds is None:
            return min(FIRST_CHUNK, self._ceiling)
        left = self._limit - self._decode_seconds if decoding else IDLE_STRETCH * self._limit
        if self._token_seconds <= 0.0:
            return self._ceiling
        chunk = int(max(left, 0.0) / self._token_seconds)
        return max(min(chunk, self._ceiling), min(SMALLEST_CHUNK, self._ceiling))
