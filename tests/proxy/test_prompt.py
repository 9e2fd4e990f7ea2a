"""What the beginnings of prompts are called: the same for the same bytes, wherever they stand."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.errors import BadRequest
from router.core.prefix.blocks import BLOCK, checkpoints, seed_of
from router.proxy import peek, prompt
from router.proxy.known_heads import parse_request
from router.proxy.paths import Body

PLAIN = parse_request(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n", 100)
WORDS = ["the", '"quoted"', "back\\slash", "ünï", '],"tools":[', '"system":', "{}", "\n"]


def text(size: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join(rng.choices(WORDS, k=size // 5))[:size]


def look(body: bytes | dict[str, Any], pieces: int = 0) -> peek.Peek:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    cut = [raw[at : at + pieces] for at in range(0, len(raw), pieces)] if pieces else [raw]
    return peek.peek(cut, len(raw), Body.JSON, PLAIN, {})


@contextmanager
def decoding_up_to(size: int) -> Iterator[None]:
    """0: every body is looked at from its ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt, "DECODED", size)
        yield


def raw(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def inner(value: object) -> bytes:
    return raw(value)[1:-1]


TURNS = [{"role": ("user", "assistant")[n % 2], "content": text(700, n)} for n in range(9)]
TOOLS = [
    {"type": "function", "function": {"name": f"f{n}", "description": text(300, n)}}
    for n in range(20)
]
BLOCKS = [{"type": "text", "text": text(6000), "cache_control": {"type": "ephemeral"}}]
BODIES: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "chat": ({"messages": TURNS}, [inner(TURNS)]),
    "chat with tools": ({"messages": TURNS, "tools": TOOLS}, [raw(TOOLS), inner(TURNS)]),
    "text": ({"prompt": text(5000)}, [inner(text(5000))]),
    "texts": ({"prompt": [text(5000), "other"]}, [inner(text(5000))]),
    "token ids": ({"prompt": list(range(3000))}, [inner(list(range(3000)))]),
    "lists of token ids": ({"prompt": [list(range(3000)), [1]]}, [inner(list(range(3000)))]),
    "responses, text": (
        {"input": text(5000), "instructions": text(6000, 1), "tools": TOOLS},
        [raw(TOOLS), raw(text(6000, 1)), inner(text(5000))],
    ),
    "responses, items": ({"input": TURNS, "tools": TOOLS}, [raw(TOOLS), inner(TURNS)]),
    "Anthropic": (
        {"system": BLOCKS, "tools": TOOLS, "messages": TURNS},
        [raw(TOOLS), raw(BLOCKS), inner(TURNS)],
    ),
    "Anthropic, short system": (
        {"system": "Be brief.", "messages": TURNS},
        [raw("Be brief."), inner(TURNS)],
    ),
    "embeddings": ({"input": [text(5000), text(400)]}, [inner(text(5000))]),
    "nothing to speak of": (
        {"messages": TURNS, "tools": [], "system": None, "instructions": ""},
        [inner(TURNS)],
    ),
    "no prompt": ({"documents": TURNS}, []),
    "none of the names": ({"messages": None, "input": [], "prompt": ""}, []),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("order", ["as given", "model last", "turned round"])
@pytest.mark.parametrize("decoded", [True, False])
def test_prompt_of_every_api(name: str, order: str, decoded: bool) -> None:
    fields, expected = BODIES[name]
    model = {"model": "m", "stream": True, "max_tokens": 7, "stop": ["a", "b"]}
    fields = {"as given": model | fields, "model last": fields | model}.get(
        order, dict(reversed((model | fields).items()))
    )
    names = checkpoints(expected, seed_of("m")), sum(map(len, expected))
    with decoding_up_to(1 << 20 if decoded else 0):
        for pieces in (0, 1000):
            seen = look(fields, pieces)
            assert (seen.checkpoints, seen.prompt_bytes) == names
            assert (seen.model, seen.stream, seen.max_tokens) == ("m", True, 7)


def test_a_body_of_any_size_is_named_alike() -> None:
    """The ends of a large body tell what decoding tells, tools and system behind its bulk too."""
    turns = [{"role": "user", "content": text(900, n)} for n in range(600)]
    fields = {"max_tokens": 9, "messages": turns, "model": "m", "stream": True}
    fields |= {"system": text(15_000, 1), "temperature": 1, "tools": TOOLS * 4}
    whole = checkpoints([raw(TOOLS * 4), raw(text(15_000, 1)), inner(turns)], seed_of("m"))
    assert len(raw(fields)) > 4 * prompt.DECODED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peek, "decode_prompt", None)  # of the whole body
        for pieces in (0, 65_536, 1000):
            assert look(fields, pieces).checkpoints == whole


def test_what_distinguishes_prompts_of_the_same_bytes() -> None:
    fields = {"model": "m", "messages": TURNS}
    plain = look(fields).checkpoints
    others = [
        look(fields | {name: value}).checkpoints
        for name, value in (
            ("model", "n"),
            ("cache_salt", "s"),
            ("cache_salt", "t"),
            ("lora_path", "s"),
            ("lora_request", {"name": "s"}),
            ("adapter_id", "s"),
        )
    ]
    assert len({plain, *others}) == 7
    assert look(fields | {"cache_salt": None, "lora_path": ""}).checkpoints == plain
    assert look(fields | {"temperature": 0.5, "user": "u"}).checkpoints == plain
    body = raw(fields | {"model": "alias"})
    seen = peek.peek([body], len(body), Body.JSON, PLAIN, {"alias": "m"})
    assert (seen.model, seen.checkpoints) == ("alias", plain)


def test_no_more_is_hashed_than_can_be_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "MOST", 3 * BLOCK)
    seen = look({"model": "m", "tools": TOOLS, "prompt": text(9000)})
    assert seen.checkpoints == checkpoints([raw(TOOLS)[: 3 * BLOCK]], seed_of("m"))
    assert seen.prompt_bytes == len(raw(TOOLS)) + len(inner(text(9000)))


def test_seeds_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "MAX_SEEDS", 8)
    for number in range(20):
        look({"model": f"m{number}", "prompt": "x"})
        assert len(prompt._seeds) <= 8


@pytest.mark.parametrize("known", [True, False])
def test_beginning_of_an_upload(known: bool) -> None:
    """What there is of it begins as the whole does."""
    body = raw({"model": "m", "system": text(9000), "messages": TURNS})
    whole = look(body)
    length = f"content-length: {len(body)}" if known else "transfer-encoding: chunked"
    head = parse_request(f"POST /v1/messages HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode(), 9)
    seen = peek.front(body[:13_000], Body.JSON, head, {})
    assert seen is not None
    assert seen.checkpoints
    assert seen.checkpoints == whole.checkpoints[: len(seen.checkpoints)]
    if known:
        assert 0 <= seen.prompt_bytes - whole.prompt_bytes < 10
    assert peek.front(body[:13_000], Body.JSON, head) == seen.with_prompt((), 0)


# --- whatever comes -------------------------------------------------------------------------------

words = st.text(max_size=60) | st.sampled_from(WORDS)
contents = words | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": words}))
messages = st.lists(
    st.dictionaries(words, words, max_size=2).flatmap(
        lambda extra: st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant"]), "content": contents}
        ).map(lambda message: message | extra)
    ),
    min_size=1,
    max_size=5,
)
others = st.fixed_dictionaries(
    {"model": words},
    optional={
        "tools": st.lists(st.dictionaries(words, contents, max_size=3), max_size=3),
        "system": contents,
        "stream": st.booleans(),
        "user": words,
        "stop": st.lists(words, max_size=3),
        "metadata": st.dictionaries(words, words, max_size=3),
    },
)
styles = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, None, 1, 4]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]),
    }
)


@contextmanager
def small(block: int) -> Iterator[None]:
    """Checkpoints every few bytes, and short reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("router.core.prefix.blocks._STEPS", (block,) * 199)
        patch.setattr(prompt, "BLOCK", block)
        yield


@settings(max_examples=300, deadline=None)
@given(messages, messages, others, styles, st.randoms(use_true_random=False), st.data())
def test_a_turn_more_keeps_all_checkpoints(
    history: list[Any],
    more: list[Any],
    fields: dict[str, Any],
    style: dict[str, Any],
    rng: random.Random,
    data: st.DataObject,
) -> None:
    """In any order of fields, any spelling and any pieces; decoded, or seen from the ends."""
    names = ["messages", *fields]
    rng.shuffle(names)

    def body(turns: list[Any]) -> bytes:
        everything = fields | {"messages": turns}
        ordered = {name: everything[name] for name in names}
        return json.dumps(ordered, **style).encode("utf-8", "replace")

    before, after = body(history), body(history + more)
    size = data.draw(st.integers(1, len(after)))
    cut = [after[at : at + size] for at in range(0, len(after), size)]
    with small(7):
        first = look(before)
        then = look(after)
        assert then.checkpoints[: len(first.checkpoints)] == first.checkpoints
        assert then.prompt_bytes > first.prompt_bytes
        assert len(then.checkpoints) == min(then.prompt_bytes // 7, 199)
        assert peek.peek(cut, len(after), Body.JSON, PLAIN, {}) == then
        with decoding_up_to(0):
            assert look(before) == first
            assert peek.peek(cut, len(after), Body.JSON, PLAIN, {}) == then
    assert look(after).prefix_hash == peek.peek([after], len(after), Body.JSON, PLAIN).prefix_hash


@settings(max_examples=300, deadline=None)
@given(messages, others, styles, st.data(), st.booleans())
def test_broken_bodies_are_no_worse_for_being_named(
    history: list[Any],
    fields: dict[str, Any],
    style: dict[str, Any],
    data: st.DataObject,
    ends: bool,
) -> None:
    """Cut or with other bytes in them, they are refused, or passed on, as without names."""
    body = bytearray(json.dumps({"messages": history} | fields, **style).encode("utf-8", "replace"))
    del body[data.draw(st.integers(1, len(body))) :]
    for place in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=3)):
        body[place] = data.draw(st.sampled_from(list(b'"\\{}[],:x0\xff')))
    with decoding_up_to(0 if ends else 1 << 20):
        plain, named = (_outcome(bytes(body), aliases) for aliases in (None, {}))
    if isinstance(named, peek.Peek):
        named = named.with_prompt((), 0)
    if not ends:
        assert named == plain


def _outcome(body: bytes, aliases: prompt.Aliases | None) -> peek.Peek | str:
    try:
        return peek.peek([body], len(body), Body.JSON, PLAIN, aliases)
    except BadRequest as error:
        return str(error)
