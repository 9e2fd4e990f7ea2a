"""What a modelled engine can do: the time of its steps and the room in its caches.

All times are whole picoseconds. Sums of them are exact, so that jumping over a thousand steps at
once gives the very time that a thousand steps give one by one.

The figures are of Llama-3.1-8B on an H100, from the profile in LLMServingSim (MIT, commit 5daddb2):
steps of 1, 512, 1024 and 2048 tokens take 8.2, 17.8, 30.2 and 64.8 ms there, 8.2, 20.8, 33.5 and
60.3 ms here. Attention is 4 * width * layers operations for each pair of a token and one before
it, at 375 TFLOP/s; reading the cache is 128 KiB a token (64 in fp8) at 2.7 TB/s.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

PICOSECONDS: Final = 1_000_000_000_000
"""In a second."""


def picoseconds(seconds: float) -> int:
    return round(seconds * PICOSECONDS)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One replica. Times in picoseconds, sizes in tokens.

    Attributes:
        step: what a step takes whatever is in it.
        per_prefill_token: of each prompt token computed.
        per_token_context: of each pair of a prompt token computed and a token before it.
        per_decode: of each sequence that decodes.
        per_kv_token: of each token in the context of a sequence that decodes.
        per_reloaded_token: of each token that comes back from the host's memory.
        step_tokens: most tokens in a step; each decoding sequence is one of them.
        max_sequences: most sequences that run at a time.
        kv_tokens: room in the device's memory, running sequences included.
        host_tokens: room in the host's memory for what the device's has none for.
    """

    step: int = 8_200_000_000
    per_prefill_token: int = 24_000_000
    per_token_context: int = 1_400
    per_decode: int = 20_000_000
    per_kv_token: int = 50_000
    per_reloaded_token: int = 2_600_000
    step_tokens: int = 2048
    max_sequences: int = 256
    kv_tokens: int = 412_000
    host_tokens: int = 0

    def prefill(self, computed: int, before: int) -> int:
        """Time that prompt tokens add to a step.

        Args:
            computed: how many.
            before: tokens of the same prompt in front of them.
        """
        pairs = computed * (2 * before + computed)  # twice their number
        return self.per_prefill_token * computed + self.per_token_context * pairs // 2

    def decode(self, sequences: int, context: int) -> int:
        """Time that decoding sequences add to a step, with so many tokens of context in all."""
        return self.per_decode * sequences + self.per_kv_token * context

    def cold(self, prompt: int) -> int:
        """Time to the first token of a prompt that is alone, with nothing in the cache."""
        steps = -(-prompt // self.step_tokens)
        return self.step * steps + self.prefill(prompt, 0)

    def scaled(self, speed: float, cache: float) -> "Profile":
        """A replica so many times as fast, with so many times the room.

        Raises:
            ValueError: a factor is not above zero.
        """
        if speed <= 0 or cache <= 0:
            raise ValueError(f"speed and cache must be above 0, not {speed:g} and {cache:g}")
        times = (
            "step",
            "per_prefill_token",
            "per_token_context",
            "per_decode",
            "per_kv_token",
            "per_reloaded_token",
        )
        changed = {name: round(getattr(self, name) / speed) for name in times}
        rooms = {name: round(getattr(self, name) * cache) for name in ("kv_tokens", "host_tokens")}
        return msgspec.structs.replace(self, **changed, **rooms)


HBM: Final = Profile()
"""80 GB of device memory, a bf16 cache in what the weights leave of it."""

OFF: Final = Profile(per_kv_token=25_000, kv_tokens=824_000, host_tokens=3_300_000 - 824_000)
"""The same with the cache in fp8, and 160 GB of the host's memory behind it: 3.3M tokens in all."""

REGIMES: Final[Mapping[str, Profile]] = {"hbm": HBM, "off": OFF}
