"""What whoever listens to engines and whoever balances among them tell each other."""

import msgspec

Tip = tuple[int, int]
"""What an engine calls the last full block of a prompt, and how many there are, at least 1."""


class TipSeen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An answer said which blocks its prompt has; see ``core.engine_cache.cache.Tip``.

    ``checkpoints``: eight bytes for each.
    """

    endpoint: str
    block: int
    count: int
    size: float
    end: int
    checkpoints: bytes


class CacheNews(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What has changed of what is known of an engine's cache.

    In this order: ``cleared``, it holds nothing any more; ``lost`` and ``held``, names that it
    does not hold and holds, eight bytes for each; ``stored``, tokens that it stored; ``size``,
    tokens that it can hold, 0 where that is not known.

    ``exact`` False: nothing is known for sure from now on.
    """

    endpoint: str
    exact: bool
    cleared: bool = False
    lost: bytes = b""
    held: bytes = b""
    stored: int = 0
    size: int = 0
