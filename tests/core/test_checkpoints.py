"""The hash contract of prompt prefixes."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from router.core.prefix.blocks import (
    BLOCK,
    DEPTHS,
    GAINS,
    LONGEST,
    checkpoints,
    depth_bytes,
    seed_of,
)

PROMPT = random.Random(1).randbytes(40 * BLOCK + 100)


def test_four_depths_to_an_octave() -> None:
    assert DEPTHS[:16] == (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
    assert DEPTHS[-1] == LONGEST
    assert sum(GAINS) == LONGEST
    assert len([d for d in DEPTHS if d <= 64]) == 20
    assert len([d for d in DEPTHS if d <= 1024]) == 36


@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 0), (BLOCK - 1, 0), (BLOCK, 1), (4 * BLOCK, 4), (9 * BLOCK, 8), (10 * BLOCK, 9)],
)
def test_as_many_as_the_prompt_reaches(size: int, count: int) -> None:
    found = checkpoints([PROMPT[:size]], 0)
    assert len(found) == count
    assert depth_bytes(found) == (DEPTHS[count - 1] * BLOCK if count else 0)


def test_each_names_all_bytes_before_it() -> None:
    found = checkpoints([PROMPT], 7)
    assert found == tuple(
        xxh3_64_intdigest(PROMPT[: depth * BLOCK], seed=7) for depth in DEPTHS[: len(found)]
    )


@given(st.lists(st.integers(0, 20 * BLOCK), max_size=12))
def test_pieces_may_be_cut_anywhere(sizes: list[int]) -> None:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(PROMPT[start : start + size])
        start += size
    assert checkpoints(pieces, 3) == checkpoints([b"".join(pieces)], 3)


def test_equal_beginnings_and_other_seeds() -> None:
    one = checkpoints([PROMPT[: 20 * BLOCK]], 1)
    other = checkpoints([PROMPT[: 8 * BLOCK] + bytes(12 * BLOCK)], 1)
    assert one[:8] == other[:8]
    assert not set(one[8:]) & set(other[8:])
    assert not set(one) & set(checkpoints([PROMPT[: 20 * BLOCK]], 2))


def test_what_is_in_the_seed() -> None:
    assert seed_of("m", None, "salt") != seed_of("m", "salt", None)
    assert seed_of("m", None) == seed_of("m", "")


def test_the_deepest_one_is_the_last() -> None:
    assert len(checkpoints([bytes(LONGEST * BLOCK + 5000)], 0)) == len(DEPTHS)
