"""Another model in a body: what a parser finds afterwards, and that nothing else has changed."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy import forms
from router.proxy.model_rewrite import rewrite

JSON = b"application/json"
FORM = b'multipart/form-data; boundary="xyz"'

BODIES: dict[str, tuple[bytes, bytes | None]] = {
    "the usual": (b'{"model":"m","stream":true}', b'{"model":"new","stream":true}'),
    "behind its messages": (
        b'{"messages":[{"role":"user","content":"hi"}],"model":"m"}',
        b'{"messages":[{"role":"user","content":"hi"}],"model":"new"}',
    ),
    "blanks stay": (b' {\n "model" :\t"m" , "n":1 }\r\n', b' {\n "model" :\t"new" , "n":1 }\r\n'),
    "a key spelled with escapes": (b'{"mod\\u0065l":"m"}', b'{"mod\\u0065l":"new"}'),
    "both spellings": (
        b'{"model":"a","\\u006dodel":"b"}',
        b'{"model":"new","\\u006dodel":"new"}',
    ),
    "escapes in the value": (b'{"model":"a\\"b\\\\","n":1}', b'{"model":"new","n":1}'),
    "two of them: no parser finds the old one": (
        b'{"model":"a","n":1,"model":"b"}',
        b'{"model":"new","n":1,"model":"new"}',
    ),
    "nested ones stay": (
        b'{"x":{"model":"a"},"y":[{"model":"b"}],"model":"c","z":{"model":"d"}}',
        b'{"x":{"model":"a"},"y":[{"model":"b"}],"model":"new","z":{"model":"d"}}',
    ),
    "text stays": (
        b'{"x":"\\"model\\":\\"a\\"","y":"model","model":"c"}',
        b'{"x":"\\"model\\":\\"a\\"","y":"model","model":"new"}',
    ),
    "its name as its value": (b'{"model":"model"}', b'{"model":"new"}'),
    "an odd type": (b'{"model":null,"n":-1.5e3}', b'{"model":"new","n":-1.5e3}'),
    "an object": (b'{"model":{"model":"x"},"n":[]}', b'{"model":"new","n":[]}'),
    "only a nested one": (b'{"x":{"model":"a"}}', None),
    "none": (b"{}", None),
    "nothing": (b"", None),
    "no object": (b'["model"]', None),
    "cut short": (b'{"model":"m', None),
    "a key that is no JSON": (b'{"mod\\qel":"m"}', None),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_bodies(name: str, size: int) -> None:
    body, expected = BODIES[name]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    written = rewrite(pieces, JSON, "new")
    assert (None if written is None else b"".join(written)) == expected


@pytest.mark.parametrize("place", ["in front", "behind"])
def test_large_bodies(place: str) -> None:
    text = json.dumps('"model":"x" {[' * 20_000).encode()
    messages = b'"messages":[{"role":"user","content":' + text + b"}]"
    fields = [b'"model":"m"', messages] if place == "in front" else [messages, b'"model":"m"']
    body = b"{" + b",".join(fields) + b"}"
    written = rewrite([body], JSON, "new")
    assert written is not None
    assert b"".join(written) == body.replace(b'"model":"m"', b'"model":"new"')


def test_the_new_name_is_written_as_json() -> None:
    written = rewrite([b'{"model":"m"}'], JSON, 'a"\\\u00e9')
    assert written is not None
    assert json.loads(b"".join(written)) == {"model": 'a"\\\u00e9'}


def test_a_beginning_is_rewritten_where_it_names_the_model() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 9000
    written = rewrite([body], JSON, "new", whole=False)
    assert written is not None
    assert b"".join(written) == body.replace(b'"m"', b'"new"', 1)
    assert rewrite([body[:11]], JSON, "new", whole=False) is None
    assert rewrite([b'{"x":{"model":"m"},"messages":['], JSON, "new", whole=False) is None


# --- any object at all ----------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["model", '"'])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["model", "x", "{"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
keys = st.sampled_from(["model", "messages", "x"]) | st.text()
pairs = st.lists(st.tuples(keys, values), max_size=6)


@st.composite
def objects(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, object]]]:
    """An object's text, oddly spelled, and its fields in order; keys may repeat."""
    fields = draw(pairs)
    ascii_ = draw(st.booleans())
    blank = draw(st.sampled_from(["", " ", "\n\t", "\r\n"]))
    parts = []
    for key, value in fields:
        spelled = json.dumps(key, ensure_ascii=ascii_)
        if draw(st.booleans()):
            at = draw(st.integers(0, max(0, len(key) - 1)))
            spelled = (
                '"'
                + key[:at].translate(_ESCAPES)
                + "".join(f"\\u{unit:04x}" for unit in _units(key[at:]))
            )
            spelled += '"'
        value_text = json.dumps(value, ensure_ascii=ascii_, indent=draw(st.none() | st.just(1)))
        parts.append(f"{blank}{spelled}{blank}:{blank}{value_text}{blank}")
    text = blank + "{" + ",".join(parts) + (blank if not parts else "") + "}" + blank
    return text.encode(errors="surrogatepass"), fields


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\"} | {c: f"\\u{c:04x}" for c in range(0x20)}


def _units(text: str) -> list[int]:
    raw = text.encode("utf-16-le", errors="surrogatepass")
    return [int.from_bytes(raw[at : at + 2], "little") for at in range(0, len(raw), 2)]


@given(objects(), st.text(min_size=1, max_size=20))
def test_every_field_but_the_model_is_what_it_was(
    made: tuple[bytes, list[tuple[str, object]]], model: str
) -> None:
    body, fields = made
    written = rewrite([body], JSON, model)
    if all(key != "model" for key, _ in fields):
        assert written is None
        return
    assert written is not None
    got = json.loads(b"".join(written), object_pairs_hook=list)
    again = json.loads(body, object_pairs_hook=list)
    assert got == [(key, model if key == "model" else value) for key, value in again]


# --- forms ----------------------------------------------------------------------------------


def form(*parts: tuple[str, bytes], boundary: bytes = b"xyz") -> bytes:
    written = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (boundary, name.encode(), value)
        for name, value in parts
    )
    return written + b"--%b--\r\n" % boundary


def test_a_form() -> None:
    parts = [("file", b'{"model":"m"} name="model"\r\n\r\n\0\xff'), ("model", b"m"), ("n", b"1")]
    body = form(*parts)
    written = rewrite([body[:40], body[40:]], FORM, "new")
    assert written is not None
    assert b"".join(written) == form(parts[0], ("model", b"new"), parts[2])


def test_a_form_with_two_models_is_left_with_no_old_one() -> None:
    written = rewrite([form(("model", b"a"), ("model", b"b"))], FORM, "new")
    assert written is not None
    assert b"".join(written) == form(("model", b"new"), ("model", b"new"))


def test_a_form_without_a_model_or_boundary() -> None:
    assert rewrite([form(("n", b"1"))], FORM, "new") is None
    assert rewrite([form(("model", b"a"))], b"multipart/form-data", "new") is None


@given(st.lists(st.tuples(st.sampled_from(["model", "file", "n"]), st.binary(max_size=60))))
def test_the_router_finds_in_a_form_what_it_wrote(parts: list[tuple[str, bytes]]) -> None:
    parts = [(name, re.sub(rb"--", b"", value)) for name, value in parts]
    body = form(*parts)
    written = rewrite([body], FORM, "new")
    if not any(name == "model" for name, _ in parts):
        assert written is None
        return
    assert written is not None
    assert forms.field(b"".join(written), FORM, b"model") == "new"
    assert b"".join(written) == form(*((n, b"new" if n == "model" else v) for n, v in parts))
