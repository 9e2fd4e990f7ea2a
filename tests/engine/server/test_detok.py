"""Incremental decoding equals decoding everything at once, and stop strings are never shown."""

import itertools
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from engine.detok import (
    REPLACEMENT,
    ByteLevelDecoder,
    TextStream,
    Vocabulary,
    WindowDecoder,
    make_decoder,
)
from tests.engine.server.checkpoints import byte_fallback_tokenizer, byte_level_tokenizer


@cache
def byte_level() -> Vocabulary:
    return Vocabulary(byte_level_tokenizer())


@cache
def byte_fallback() -> Vocabulary:
    return Vocabulary(byte_fallback_tokenizer())


def ids_of(vocabulary: Vocabulary) -> st.SearchStrategy[list[int]]:
    # A few ids beyond the vocabulary too: padded embeddings can produce them.
    return st.lists(st.integers(0, vocabulary.size + 3), max_size=60)


def streamed(stream: TextStream, ids: list[int], cuts: list[int]) -> list[str]:
    """The pieces shown when `ids` arrive in groups that end at `cuts`."""
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    pieces = [stream.push(ids[a:b]) for a, b in itertools.pairwise(edges)]
    return [*pieces, stream.finish()]


CUTS = st.lists(st.integers(0, 60), max_size=60)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), cuts=CUTS, skip=st.booleans())
def test_random_ids_decode_as_a_whole(data: st.DataObject, cuts: list[int], skip: bool) -> None:
    vocabulary = byte_level()
    ids = data.draw(ids_of(vocabulary))
    stream = TextStream(make_decoder(vocabulary, skip_special_tokens=skip))
    whole = vocabulary.tokenizer.decode(ids, skip_special_tokens=skip)
    assert "".join(streamed(stream, ids, cuts)) == whole


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), cuts=CUTS)
def test_a_piece_never_ends_inside_a_character(text: str, cuts: list[int]) -> None:
    vocabulary = byte_level()
    ids = vocabulary.tokenizer.encode(text).ids
    pieces = streamed(TextStream(ByteLevelDecoder(vocabulary)), ids, cuts)
    assert "".join(pieces) == text
    assert REPLACEMENT in text or not any(REPLACEMENT in piece for piece in pieces)


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="hello worldab.é世🙂", max_size=30), cuts=CUTS)
@example(text="a" * 13 + "世世世🙂🙂🙂", cuts=[33])  # half a character behind many ids
def test_a_black_box_decoder_gives_the_same_text(text: str, cuts: list[int]) -> None:
    vocabulary = byte_fallback()
    assert not vocabulary.byte_level
    ids = vocabulary.tokenizer.encode(text.replace(" ", "▁")).ids
    whole = vocabulary.tokenizer.decode(ids)
    assert "".join(streamed(TextStream(WindowDecoder(vocabulary)), ids, cuts)) == whole


def test_a_black_box_decoder_keeps_the_space_after_the_prompt() -> None:
    tokenizer: Tokenizer = byte_fallback().tokenizer
    hello, world = (tokenizer.token_to_id(word) for word in ("▁hello", "▁world"))
    decoder = make_decoder(byte_fallback(), prompt_ids=[1, hello])
    assert decoder.push([world]) == " world"


def test_broken_bytes_are_shown_before_they_pile_up() -> None:
    first = byte_fallback().tokenizer.token_to_id("<0xE4>")
    decoder = WindowDecoder(byte_fallback())
    shown = "".join(decoder.push([first]) for _ in range(200))
    assert shown.count(REPLACEMENT) > 100


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(alphabet="abc", max_size=30),
    stop=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=CUTS,
    include=st.booleans(),
)
def test_text_is_cut_at_the_first_stop_string(
    text: str, stop: list[str], cuts: list[int], include: bool
) -> None:
    vocabulary = byte_level()
    ids = [vocabulary.tokenizer.token_to_id(char) for char in text]
    stream = TextStream(ByteLevelDecoder(vocabulary), stop, include_stop=include)
    pieces = streamed(stream, ids, cuts)
    ends = [(text.find(s) + len(s), text.find(s), s) for s in stop if s in text]
    if not ends:
        assert ("".join(pieces), stream.stopped) == (text, None)
        return
    # The stop string that is complete first, whatever the grouping of the tokens.
    end, start, first = min(ends)
    assert ("".join(pieces), stream.stopped) == (text[: end if include else start], first)


@pytest.mark.parametrize(
    ("pieces", "stop", "shown", "stopped"),
    [
        (["he", "llo", " wor"], ["lo w"], ["he", "l", "", ""], "lo w"),
        (["a", "a", "b"], ["aab"], ["", "", "", ""], "aab"),
        (["a", "a", "c"], ["aab"], ["", "", "aac", ""], None),
        (["a", "a"], ["aab"], ["", "", "aa"], None),
        (["xabcd"], ["cd", "ab"], ["x", ""], "ab"),
        (["x", "EN", "D", "after"], ["END"], ["x", "", "", "", ""], "END"),
    ],
)
def test_what_could_become_a_stop_string_is_held(
    pieces: list[str], stop: list[str], shown: list[str], stopped: str | None
) -> None:
    vocabulary = byte_level()
    stream = TextStream(ByteLevelDecoder(vocabulary), stop)
    got = [stream.push(vocabulary.tokenizer.encode(piece).ids) for piece in pieces]
    got.append(stream.finish())
    assert got == shown
    assert stream.stopped == stopped


def test_min_tokens_switches_stop_strings_off() -> None:
    vocabulary = byte_level()
    stream = TextStream(ByteLevelDecoder(vocabulary), ["b"])
    a, b = (vocabulary.tokenizer.token_to_id(char) for char in "ab")
    assert stream.push([a, b], may_stop=False) == "ab"
    assert stream.push([a, b]) == "a"
    assert stream.stopped == "b"


def test_token_bytes_are_the_bytes_of_the_text() -> None:
    vocabulary = byte_level()
    ids = vocabulary.tokenizer.encode("naïve 世界 🙂").ids
    assert b"".join(map(vocabulary.token_bytes, ids)).decode() == "naïve 世界 🙂"
    assert vocabulary.token_bytes(vocabulary.size + 1) == b""
    assert byte_fallback().token_bytes(3 + 0xE4) == b"\xe4"
