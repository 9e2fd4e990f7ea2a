"""What a client may put on the wire, byte by byte, and what it is told otherwise."""

import msgspec
import pytest

from router.core.listener import ListenerLimits
from tests.proxy.rig import Rig, answering, chat, whole

BODY = b'{"model":"m"}'
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: proxy\r\n"
LENGTH = b"Content-Length: 13\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"\r\n"
ONE_CHUNK = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"


def head(*lines: bytes) -> bytes:
    return POST + HOST + b"".join(lines) + END


REFUSED: dict[str, tuple[bytes, int]] = {
    "both lengths": (head(LENGTH, CHUNKED) + ONE_CHUNK, 400),
    "both lengths, other order": (head(CHUNKED, LENGTH) + ONE_CHUNK, 400),
    "two equal lengths": (head(LENGTH, LENGTH) + BODY, 400),
    "two lengths": (head(LENGTH, b"Content-Length: 4\r\n") + BODY, 400),
    "list of lengths": (head(b"Content-Length: 13, 13\r\n") + BODY, 400),
    "signed length": (head(b"Content-Length: +13\r\n") + BODY, 400),
    "negative length": (head(b"Content-Length: -1\r\n") + BODY, 400),
    "empty length": (head(b"Content-Length:\r\n") + BODY, 400),
    "hexadecimal length": (head(b"Content-Length: 0xd\r\n") + BODY, 400),
    "length with a space inside": (head(b"Content-Length: 1 3\r\n") + BODY, 400),
    "length of 19 digits": (head(b"Content-Length: 1000000000000000000\r\n"), 400),
    "gzip coding": (head(b"Transfer-Encoding: gzip\r\n"), 501),
    "gzip, chunked": (head(b"Transfer-Encoding: gzip, chunked\r\n"), 501),
    "chunked, chunked": (head(b"Transfer-Encoding: chunked, chunked\r\n"), 501),
    "chunked in two fields": (head(CHUNKED, CHUNKED), 501),
    "identity coding": (head(b"Transfer-Encoding: identity\r\n"), 501),
    "vertical tab in the coding": (head(b"Transfer-Encoding: \x0bchunked\r\n"), 400),
    "coding in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + CHUNKED + END + ONE_CHUNK, 400),
    "space before the colon": (head(b"Content-Length : 13\r\n") + BODY, 400),
    "tab before the colon": (head(b"Transfer-Encoding\t: chunked\r\n"), 400),
    "folded line": (head(b"x-a: b\r\n c\r\n"), 400),
    "fold on the first line": (POST + b" x: y\r\n" + HOST + END, 400),
    "bare LF": (b"POST /v1/chat/completions HTTP/1.1\nHost: proxy\n\n", 400),
    "one bare LF": (head(b"x-a: b\nx-c: d\r\n"), 400),
    "bare LF in front of a field": (head(b"x-a: b\nContent-Length: 13\r\n") + BODY, 400),
    "bare CR in a value": (head(b"x-a: b\rc\r\n"), 400),
    "bare CR as a line end": (head(b"x-a: b\rContent-Length: 13\r\n"), 400),
    "NUL in a value": (head(b"x-a: b\0c\r\n"), 400),
    "control byte in a value": (head(b"x-a: b\x01c\r\n"), 400),
    "DEL in a value": (head(b"x-a: b\x7fc\r\n"), 400),
    "space in a name": (head(b"x a: b\r\n"), 400),
    "empty name": (head(b": b\r\n"), 400),
    "no colon": (head(b"x-a\r\n"), 400),
    "high byte in a name": (head(b"x-\xe4: b\r\n"), 400),
    "no Host": (POST + LENGTH + END + BODY, 400),
    "two Hosts": (head(HOST) + BODY, 400),
    "Host with userinfo": (POST + b"Host: a@b\r\n" + END, 400),
    "Host with a space": (POST + b"Host: a b\r\n" + END, 400),
    "Host with a path": (POST + b"Host: a/b\r\n" + END, 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + END, 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + END, 505),
    "HTTP/0.9 with a version": (b"GET / HTTP/0.9\r\n" + HOST + END, 505),
    "no version": (b"GET /\r\n" + HOST + END, 400),
    "lower-case version": (b"GET / http/1.1\r\n" + HOST + END, 400),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + END, 400),
    "lower-case method": (b"get / HTTP/1.1\r\n" + HOST + END, 400),
    "bad byte in the method": (b"G(T / HTTP/1.1\r\n" + HOST + END, 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "target without a slash": (b"GET v1/models HTTP/1.1\r\n" + HOST + END, 400),
    "target with a space": (b"GET /a b HTTP/1.1\r\n" + HOST + END, 400),
    "target with a high byte": (b"GET /\xe4 HTTP/1.1\r\n" + HOST + END, 400),
    "target with a control byte": (b"GET /\x01 HTTP/1.1\r\n" + HOST + END, 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + END, 400),
    "asterisk for GET": (b"GET * HTTP/1.1\r\n" + HOST + END, 400),
    "absolute form without a host": (b"GET http:///a HTTP/1.1\r\n" + HOST + END, 400),
    "two spaces after the method": (b"GET  / HTTP/1.1\r\n" + HOST + END, 400),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01", 400),
    "an unknown expectation": (head(LENGTH, b"Expect: 200-ok\r\n") + BODY, 417),
    "chunk size zz": (head(CHUNKED) + b"zz\r\n", 400),
    "chunk size 0x3": (head(CHUNKED) + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "chunk size of 17 digits": (head(CHUNKED) + b"1" * 17 + b"\r\n", 400),
    "signed chunk size": (head(CHUNKED) + b"+3\r\nabc\r\n0\r\n\r\n", 400),
    "empty chunk size": (head(CHUNKED) + b"\r\nabc\r\n", 400),
    "space before the chunk size": (head(CHUNKED) + b" 3\r\nabc\r\n0\r\n\r\n", 400),
    "space after the chunk size": (head(CHUNKED) + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    "chunk size ended by LF": (head(CHUNKED) + b"3\nabc\r\n0\r\n\r\n", 400),
    "chunk without CRLF": (head(CHUNKED) + b"3\r\nabcdef\r\n", 400),
    "chunk ended by LF": (head(CHUNKED) + b"3\r\nabc\n0\r\n\r\n", 400),
    "bare CR in an extension": (head(CHUNKED) + b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    "trailer without a colon": (head(CHUNKED) + b"0\r\nabc\r\n\r\n", 400),
    "endless chunk size line": (head(CHUNKED) + b"3;" + b"a" * 5000, 400),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(rig: Rig, name: str) -> None:
    """Answered with an error in OpenAI's shape, and closed; nothing reaches an engine."""
    await rig.start(answering())
    data, expected = REFUSED[name]
    client = await rig.client()
    await client.send(data)
    status, headers, body = await client.response()
    assert status == expected, body
    error = msgspec.json.decode(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] in ("invalid_request_error", "timeout_error")
    assert headers["connection"] == "close"
    assert await client.rest() == b""
    assert rig.engines[0].connections == 0
    assert rig.recorder.refusals == [(expected, "-")]


ACCEPTED: dict[str, bytes] = {
    "a length": head(LENGTH) + BODY,
    "chunked": head(CHUNKED) + ONE_CHUNK,
    "CHUNKED": head(b"TRANSFER-ENCODING: CHUNKED\r\n") + ONE_CHUNK,
    "tab before the value": head(b"Transfer-Encoding:\tchunked\r\n") + ONE_CHUNK,
    "blanks after the value": head(b"Content-Length: 13 \t\r\n") + BODY,
    "leading zeros in a length": head(b"Content-Length: 0013\r\n") + BODY,
    "upper-case chunk size": head(CHUNKED) + b"D\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk extension": head(CHUNKED) + b'd;a=b;c="d"\r\n' + BODY + b"\r\n0;e\r\n\r\n",
    "trailers": head(CHUNKED) + b"d\r\n" + BODY + b"\r\n0\r\nx-t: u\r\n\r\n",
    "many chunks": head(CHUNKED) + b"".join(b"1\r\n%c\r\n" % b for b in BODY) + b"00\r\n\r\n",
    "empty line before the request": b"\r\n" + head(LENGTH) + BODY,
    "high byte in a value": head(LENGTH, b"x-a: \xe4\r\n") + BODY,
    "empty value": head(LENGTH, b"x-a:\r\n") + BODY,
    "empty Host": POST + b"Host:\r\n" + LENGTH + END + BODY,
    "IPv6 Host": POST + b"Host: [::1]:80\r\n" + LENGTH + END + BODY,
    "100-continue with the body": head(LENGTH, b"Expect: 100-continue\r\n") + BODY,
    "an upgrade that is ignored": head(LENGTH, b"Connection: upgrade\r\nUpgrade: h2c\r\n") + BODY,
    "absolute form": POST.replace(b" /", b" http://other:1/") + HOST + LENGTH + END + BODY,
    "escaped NUL in the query": POST.replace(b"ons ", b"ons?a=%00 ") + HOST + LENGTH + END + BODY,
}


@pytest.mark.parametrize("how", ["at once", "byte by byte", "all but the last byte"])
@pytest.mark.parametrize("name", ACCEPTED)
async def test_accepted(rig: Rig, name: str, how: str) -> None:
    """However the bytes are cut, the engine gets one well-formed request with the same body."""
    data = ACCEPTED[name]
    seen: list[tuple[bytes, bytes]] = []

    async def script(connection: "object") -> None:
        while True:
            seen.append(await connection.request())  # type: ignore[attr-defined]
            await connection.send(whole())  # type: ignore[attr-defined]

    await rig.start(script)
    client = await rig.client()
    feed = rig.connection.data_received
    parts = {
        "at once": [data],
        "byte by byte": [data[i : i + 1] for i in range(len(data))],
        "all but the last byte": [data[:-1], data[-1:]],
    }[how]
    for part in parts:
        feed(part)
    status, headers, body = await client.response()
    if status == 100:
        status, headers, body = await client.response()
    assert (status, body) == (200, b'{"ok":true}')
    assert "connection" not in headers
    [(upstream_head, upstream_body)] = seen
    assert upstream_body == BODY
    assert upstream_head.lower().count(b"content-length: 13\r\n") == 1
    assert b"transfer-encoding" not in upstream_head.lower()


async def test_second_of_two_pipelined_requests_is_malformed(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(chat() + b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + chat())
    assert (await client.response())[0] == 200
    assert (await client.response())[0] == 400
    assert await client.rest() == b""


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    """Local answers, errors and proxied ones keep the order of their requests."""
    await rig.start(answering(whole(b"from the engine")))
    client = await rig.client()
    health = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    unknown = chat(b'{"model":"other"}')
    chunked = head(CHUNKED) + ONE_CHUNK
    await client.send(chat() + health + chunked + unknown + health + chat())
    answers = [await client.response() for _ in range(6)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 404, 200, 200]
    assert [body for _, _, body in answers if b"engine" in body] == [b"from the engine"] * 3
    assert rig.engines[0].connections == 1


async def test_many_pipelined_requests_do_not_recurse(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 3000)
    for _ in range(3000):
        assert (await client.response())[0] == 200


LIMITS = ListenerLimits(max_head=1024, max_headers=10, max_body=100, buffer_body=50)
TOO_LARGE: dict[str, tuple[bytes, int, str]] = {
    "a header": (head(b"x-a: " + b"a" * 1024 + b"\r\n"), 431, "max_head = 1024"),
    "an endless header": (POST + HOST + b"x-a: " + b"a" * 2000, 431, "max_head = 1024"),
    "an endless target": (b"GET /" + b"a" * 2000, 431, "max_head = 1024"),
    "headers": (head(b"x-a: b\r\n" * 10), 431, "more than 10"),
    "a body's length": (head(b"Content-Length: 101\r\n"), 413, "max_body = 100"),
    "a chunked body": (head(CHUNKED) + b"65\r\n" + b" " * 101 + b"\r\n", 413, "max_body = 100"),
    "many chunks": (head(CHUNKED) + b"1\r\n \r\n" * 101, 413, "max_body = 100"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_too_large(rig: Rig, name: str) -> None:
    rig.limits = LIMITS
    await rig.start(answering())
    data, expected, limit = TOO_LARGE[name]
    client = await rig.client()
    await client.send(data)
    status, headers, body = await client.response()
    assert status == expected
    assert limit in msgspec.json.decode(body)["error"]["message"]
    assert headers["connection"] == "close"
    assert rig.engines[0].connections == 0


async def test_client_that_ignores_413_still_reads_it(rig: Rig) -> None:
    """The rest of a refused body is swallowed, so that no reset destroys the answer."""
    rig.limits = ListenerLimits(max_body=1000)
    await rig.start(answering())
    client = await rig.client()
    client.writer.write(head(b"Content-Length: 3000000\r\n") + b"x" * 3_000_000)
    assert (await client.response())[0] == 413


SLOW: dict[str, bytes] = {
    "head": POST,
    "head, CR only": b"\r",
    "body": head(LENGTH) + b"{",
    "chunked body": head(CHUNKED) + b"d\r\n{",
    "body after the head": head(LENGTH),
}


@pytest.mark.parametrize("name", SLOW)
async def test_too_slow(rig: Rig, name: str) -> None:
    rig.limits = ListenerLimits(head_timeout=0.1, body_timeout=0.1)
    await rig.start(answering())
    client = await rig.client()
    await client.send(SLOW[name])
    status, headers, _ = await client.response()
    assert (status, headers["connection"]) == (408, "close")
    assert rig.recorder.refusals == [(408, "DT")]


async def test_idle_connection_is_closed(rig: Rig) -> None:
    rig.limits = ListenerLimits(idle_timeout=0.1)
    await rig.start(answering())
    client = await rig.client()
    await client.send(chat())
    assert (await client.response())[0] == 200
    assert await client.rest() == b""


async def test_expect_continue_is_answered_before_the_body(rig: Rig) -> None:
    await rig.start(answering())
    client = await rig.client()
    await client.send(head(LENGTH, b"Expect: 100-continue\r\n"))
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(BODY)
    assert (await client.response())[0] == 200
