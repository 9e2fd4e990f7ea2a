"""How a prompt's beginning is named: the hash contract between faces, mirror and routers.

A prompt is a string of bytes: what its client sent of tools, system and messages, in the order in
which an engine reads them. It is cut into blocks of 512 bytes, 128 tokens of English. A checkpoint
is XXH3-64 of everything up to a depth; only some depths have one, four to an octave, so that 8k
tokens have 20 and 128k have 36. Equal checkpoints are equal prefixes: what differs in model,
adapter or cache salt differs in the seed. Routers that tell each other of prefixes need nothing
else in common.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from xxhash import xxh3_64, xxh3_64_intdigest

BLOCK: Final = 512
"""Bytes. Engines cache 16 tokens or so at a time; to follow them would cost more than it tells."""

LONGEST: Final = 1 << 15
"""Blocks of the deepest checkpoint: 16 MiB, four million tokens."""


def _depths() -> tuple[int, ...]:
    depths = [1, 2, 3, 4]
    while depths[-1] < LONGEST:
        octave = depths[-1]
        depths += [octave + octave // 4 * quarter for quarter in (1, 2, 3, 4)]
    return tuple(depths)


DEPTHS: Final = _depths()
"""Depths with a checkpoint, in blocks: 1 2 3 4 5 6 7 8 10 12 14 16 20 24 28 32 40 ..."""

GAINS: Final = tuple(deep - shallow for shallow, deep in pairwise((0, *DEPTHS)))
"""Blocks between a checkpoint and the one before it."""

_ENDS: Final = tuple(depth * BLOCK for depth in DEPTHS)
_STEPS: Final = tuple(blocks * BLOCK for blocks in GAINS)


def seed_of(*parts: str | None) -> int:
    """A seed for prompts of one model, adapter and cache salt; None and "" are the same."""
    return xxh3_64_intdigest("\0".join(part or "" for part in parts).encode())


def checkpoints(prompt: Iterable[bytes | memoryview], seed: int) -> tuple[int, ...]:
    """Name the beginnings of a prompt.

    Args:
        prompt: its bytes, in pieces that may be cut anywhere.
        seed: of :func:`seed_of`.

    Returns:
        A hash for each depth that the prompt reaches, the shallowest first; none for a prompt of
        less than one block.
    """
    hashed = xxh3_64(seed=seed)
    found: list[int] = []
    update, digest, note = hashed.update, hashed.intdigest, found.append
    index, left = 0, _STEPS[0]
    # What follows the last checkpoint is nobody's: it is hashed only when more has come.
    rest: bytes | memoryview = b""
    for piece in prompt:
        if rest:
            update(rest)
        size = len(piece)
        if size < left:
            rest = piece
            left -= size
            continue
        view = memoryview(piece)
        position, end = 0, left
        while end <= size:
            update(view[position:end])
            note(digest())
            position = end
            index += 1
            if index == len(_STEPS):
                return tuple(found)
            end += _STEPS[index]
        rest = view[position:]
        left = end - size
    return tuple(found)


def depth_bytes(found: Sequence[int]) -> int:
    """Bytes up to the last of these checkpoints."""
    return _ENDS[len(found) - 1] if found else 0
