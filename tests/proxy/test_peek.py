"""What a look at a body finds, compared with what a JSON parser finds."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.core import errors
from router.proxy import peek, scan
from router.proxy.known_heads import parse_request
from router.proxy.paths import Body
from tests.proxy.rig import Rig, answering, chat

PLAIN = parse_request(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n", 100)


def look(body: bytes | dict[str, object], kind: Body = Body.JSON) -> peek.Peek:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    seen = peek.peek([raw] if raw else [], len(raw), kind, PLAIN)
    cut = [raw[at : at + 5000] for at in range(0, len(raw), 5000)]
    assert peek.peek(cut, len(raw), kind, PLAIN) == seen
    return seen


FIELDS: dict[str, tuple[bytes, peek.Peek]] = {
    "the usual": (
        b'{"model":"m","stream":true,"max_tokens":5,"user":"u"}',
        peek.Peek("m", True, 5, "u"),
    ),
    "blanks everywhere": (b' \n{ "model" :\t"m" , "stream" : true } \r\n', peek.Peek("m", True)),
    "escapes": (b'{"mod\\u0065l":"\\u006d\\"\\\\"}', peek.Peek('m"\\')),
    "a later one wins": (b'{"model":"a","model":"b"}', peek.Peek("b")),
    "nested ones do not count": (
        b'{"x":{"model":"a"},"y":[{"model":"b"}],"model":"c"}',
        peek.Peek("c"),
    ),
    "text does not count": (b'{"x":"\\"model\\":\\"a\\"","model":"c"}', peek.Peek("c")),
    "no model": (b"{}", peek.Peek()),
    "null": (b'{"model":null,"stream":null,"max_tokens":null,"user":null}', peek.Peek()),
    "the newer limit": (b'{"max_tokens":1,"max_completion_tokens":2}', peek.Peek(None, False, 2)),
    "of the Responses API": (b'{"model":"m","max_output_tokens":3}', peek.Peek("m", False, 3)),
    "odd types are the engine's": (
        b'{"model":"m","stream":"yes","max_tokens":1.5,"user":7}',
        peek.Peek("m"),
    ),
    "odd messages too": (b'{"model":"m","messages":"hello","stream":true}', peek.Peek("m", True)),
    "a huge limit": (
        b'{"model":"m","max_tokens":' + b"9" * 30 + b"}",
        peek.Peek("m", False, int("9" * 30)),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("padding", ["none", "in front", "behind", "around"])
def test_fields(name: str, padding: str) -> None:
    """The same of a small body and of a large one, wherever its bulk is."""
    body, expected = FIELDS[name]
    start, end = body.index(b"{") + 1, body.rindex(b"}")
    inner = body[start:end]
    bulk = b'"bulk":"' + b'x \\"model\\":\\"z\\", ' * 2000 + b'"'
    parts = {
        "none": [inner],
        "in front": [bulk, inner],
        "behind": [inner, bulk],
        "around": [bulk, inner, bulk],
    }[padding]
    assert look(b"{" + b",".join(part for part in parts if part.strip()) + b"}") == expected


BAD: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"model=m",
    "cut": b'{"model":"m"',
    "trailing comma": b'{"model":"m",}',
    "something after it": b'{"model":"m"} x',
    "single quotes": b"{'model':'m'}",
    "an array": b'[{"model":"m"}]',
    "a string": b'"model"',
    "a number as model": b'{"model":5}',
    "an object as model": b'{"model":{"a":1}}',
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "bad UTF-8": b'{"model":"\xff"}',
    "odd types, then cut": b'{"model":"m","stream":"yes",',
    "an array, cut": b"[",
    "nested without end": b'{"model":"m","x":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "large, cut": b'{"a":"' + b"x" * 40_000,
    "large, no JSON": b"x" * 40_000,
    "large, a number as model": b'{"model":5,"a":"' + b"x" * 40_000 + b'"}',
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_bodies_are_refused_without_an_engine(rig: Rig, name: str) -> None:
    await rig.start(answering())
    status, _, body = await rig.post(BAD[name])
    error = json.loads(body)["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == ("model" if "as model" in name else None)
    assert rig.engines[0].connections == 0


@pytest.mark.parametrize("name", BAD)
def test_unknown_paths_take_any_body(name: str) -> None:
    assert look(BAD[name], Body.ANY) == peek.NOTHING


async def test_body_without_a_model(rig: Rig) -> None:
    await rig.start(answering())
    status, _, body = await rig.post(b'{"messages":[]}')
    assert (status, json.loads(body)["error"]["param"]) == (400, "model")


# --- against a JSON parser ------------------------------------------------------------------------

text = st.text(max_size=20) | st.sampled_from(
    ['"model":"evil"', '\\"model\\":', '{"model":"evil"}', "\\", '\\"', '",\n"model":"evil","x":"']
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
wanted = st.fixed_dictionaries(
    {},
    optional={
        "model": text,
        "stream": st.booleans(),
        "max_tokens": st.integers(0, 10**6),
        "user": text,
        "messages": st.lists(
            st.fixed_dictionaries({"role": text, "content": json_values}), max_size=4
        ),
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    fields = list(draw(wanted).items()) + list(
        draw(
            st.dictionaries(text.filter(lambda t: t not in _NAMES), json_values, max_size=5)
        ).items()
    )
    ascii_only = draw(st.booleans())
    indent = draw(st.sampled_from([None, None, 1]))
    body = json.dumps(dict(draw(st.permutations(fields))), ensure_ascii=ascii_only, indent=indent)
    return body.encode("utf-8", "replace")


_NAMES = (
    "model",
    "stream",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "user",
    "messages",
    "system",
    "prompt",
    "input",
    "instructions",
)


@settings(max_examples=300, deadline=None)
@given(bodies())
@example(b'{"a":"\\\\","model":"m"}')
@example(b'{"a":"\\\\\\"","model":"m"}')
def test_small_bodies(body: bytes) -> None:
    """Equal to what a parser says."""
    seen, fields = look(body), json.loads(body)
    assert seen.model == fields.get("model")
    assert seen.stream == fields.get("stream", False)
    assert seen.max_tokens == fields.get("max_tokens")
    assert seen.user == fields.get("user")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(json_values) | st.dictionaries(text, json_values) | text,
    st.sampled_from(["", ",", " , 1", "]", "\n}"]),
    st.integers(1, 40),
    st.booleans(),
)
def test_a_value_is_passed_over(value: object, behind: str, short: int, tells: bool) -> None:
    """To its very end, by msgspec or without it; a value that is cut has none."""
    encoded = json.dumps(value).encode()
    body = b'{"x":' + encoded + behind.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_TELLS", tells)
        assert scan.skip_value(body, 5, len(body)) == 5 + len(encoded)
        if short < len(encoded):
            assert scan.skip_value(body, 5, 5 + len(encoded) - short) is None


def test_msgspec_tells_where_a_value_ends() -> None:
    """If not, its words have changed: all works on, large bodies at several times the cost."""
    assert scan._tells()
    dense = b'"' + rb"\"" * 5000 + b'"'
    assert scan.skip_value(dense + b",", 0, 20_000) == len(dense)
    assert scan.skip_value(b"[" * 5000, 0, 5000) is None


@settings(max_examples=300, deadline=None)
@given(bodies(), st.integers(8, 400))
@example(b'{"a":"\\\\","model":"m"}', 12)
@example(b'{"a":"x\\"","model":"m"}', 14)
def test_both_ends_never_err(body: bytes, reach: int) -> None:
    """However short the reach: a field that is found is the field that a parser finds."""
    fields = json.loads(body)
    found = scan.both_ends(body, body, reach)
    for name, value in found.fields.items():
        assert fields[name] == value
    for name, start in found.starts.items():
        value, _ = json.JSONDecoder().raw_decode(body[start:].decode())
        assert fields[name] == value


@settings(max_examples=100, deadline=None)
@given(bodies())
def test_both_ends_find_all_within_reach(body: bytes) -> None:
    fields = json.loads(body)
    expected = {
        name: fields[name] for name in ("model", "stream", "max_tokens", "user") if name in fields
    }
    assert scan.both_ends(body, body, len(body)).fields == expected
    assert scan.back(body, len(body)) == expected


@settings(max_examples=100, deadline=None)
@given(wanted, st.booleans(), st.booleans())
def test_large_bodies(fields: dict[str, object], front: bool, ascii_only: bool) -> None:
    """The SDK's order: the messages first, and all the rest behind; or the other way round."""
    bulk = {"messages": [{"role": "user", "content": '"model":"evil" \\ ' * 3000}]}
    fields.pop("messages", None)
    body = json.dumps({**bulk, **fields} if front else {**fields, **bulk}, ensure_ascii=ascii_only)
    seen = look(body.encode())
    assert seen.model == fields.get("model")
    assert seen.stream == fields.get("stream", False)
    assert seen.max_tokens == fields.get("max_tokens")
    assert seen.user == fields.get("user")


# --- the prefix -----------------------------------------------------------------------------------


def conversation(system: str, first: str, turns: int, size: int = 50) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": first})
    for turn in range(turns):
        messages.append({"role": "assistant", "content": f"answer {turn} " + "a" * size})
        messages.append({"role": "user", "content": f"question {turn} {system}"})
    return messages


def key(**fields: object) -> int | None:
    return look({"model": "m", **fields}).prefix_hash


@pytest.mark.parametrize(
    "system", ["", "You help.", 'Say "role":"user" {[', "s" * 9000, "ä" * 30000]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("content_first", [False, True])
def test_turns_of_a_conversation_have_one_prefix(
    system: str, separators: tuple[str, str], content_first: bool
) -> None:
    """Also when the body grows from small to large on the way."""

    def body(first: str, turns: int, model: str = "m") -> bytes:
        messages = conversation(system, first, turns, 4000)
        if content_first:
            messages = [dict(reversed(message.items())) for message in messages]
        fields = {"messages": messages, "model": model, "stream": True}
        return json.dumps(fields, separators=separators, ensure_ascii=False).encode()

    hashes = {look(body("hello", turns)).prefix_hash for turns in range(8)}
    assert len(body("hello", 7)) > peek.WHOLE
    assert len(hashes) == 1
    assert hashes != {None}
    assert look(body("hullo", 0)).prefix_hash not in hashes
    assert look(body("hullo", 7)).prefix_hash not in hashes
    assert look(body("hello", 0, "n")).prefix_hash not in hashes


def test_prefix_of_other_apis() -> None:
    long = "p" * 300
    assert key(prompt=long + "a") == key(prompt=long + "b") != key(prompt="q" + long)
    assert key(input=long + "a") == key(input=long + "b") != key(input="q" + long)
    hello = [{"role": "user", "content": "hello"}]
    assert key(system="a", messages=hello) != key(system="b", messages=hello)
    assert key(instructions="a", input=hello) != key(instructions="b", input=hello)
    assert key(input=hello) == key(input=[*hello, {"role": "assistant", "content": "x"}])
    assert key() is None
    assert key(messages=[]) is None


@pytest.mark.parametrize("name", ["system", "instructions", "prompt", "input"])
def test_prefix_does_not_depend_on_size(name: str) -> None:
    """Small and large bodies are looked at in two ways, with one result."""
    hello = [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "x"},
    ]
    fields: dict[str, object] = {name: "v" * 700}
    if name == "system":
        fields["messages"] = hello
    elif name == "instructions":
        fields["input"] = hello
    assert key(**fields) == key(**fields, metadata="x" * 40_000) is not None


# --- forms ----------------------------------------------------------------------------------------


def form(*parts: tuple[str, bytes], boundary: str = "Bound-aRy") -> bytes:
    body = b""
    for disposition, value in parts:
        body += f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
        body += value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


FILE = ('name="file"; filename="a.wav"', b'--Bound\r\nname="model"\r\n\r\nevil' + b"\0" * 50_000)
FORMS: dict[str, tuple[bytes, str | None]] = {
    "model first": (form(('name="model"', b"whisper"), FILE), "whisper"),
    "model last": (form(FILE, ('name="model"', b"whisper")), "whisper"),
    "unquoted": (form(("name=model", b"whisper")), "whisper"),
    "preamble": (b"hello\r\n" + form(('name="model"', b"whisper")), "whisper"),
    "a file called so": (form(('name="x"; filename="model"', b"evil")), None),
    "a longer name": (form(('name="xmodel"', b"evil"), ('name="model_x"', b"evil")), None),
    "none": (form(FILE), None),
    "too long": (form(('name="model"', b"m" * 600)), None),
    "cut": (form(('name="model"', b"whisper"))[:40], None),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    body, expected = FORMS[name]
    head = parse_request(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\n"
        b'Content-Type: Multipart/Form-Data; charset=x; boundary="Bound-aRy"\r\n\r\n',
        10,
    )
    assert peek.peek([body], len(body), Body.FORM, head).model == expected


async def test_form_reaches_the_engine_of_its_model(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    body, _ = FORMS["model last"]
    await client.send(
        chat(
            body,
            "/v1/audio/transcriptions",
            Content_Type="multipart/form-data; boundary=Bound-aRy",
        ).replace(b'name="model"\r\n\r\nwhisper', b'name="model"\r\n\r\nm      ')
    )
    status, _, answer = await client.response()
    assert (status, b"`m      `" in answer) == (404, True)


def test_conversations_are_hashed_only_where_somebody_reads_it() -> None:
    messages = [{"role": "user", "content": "hi"}]
    raw = json.dumps({"model": "m", "user": "u", "messages": messages}).encode()
    seen = peek.peek([raw], len(raw), Body.JSON, PLAIN)
    assert seen.prefix_hash is not None
    bare = peek.peek([raw], len(raw), Body.JSON, PLAIN, conversation=False)
    assert bare == peek.Peek("m", user="u")
    with pytest.raises(errors.BadRequest):
        peek.peek([raw[:-1]], len(raw) - 1, Body.JSON, PLAIN, conversation=False)
