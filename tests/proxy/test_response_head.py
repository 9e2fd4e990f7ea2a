"""An engine's heads: what is refused, and that heads seen before change nothing of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy import response_head
from router.proxy.response_head import ResponseHead

REQUEST_ID = b"7-e"


def read_head(head: bytes) -> ResponseHead:
    return response_head.read_head(head, REQUEST_ID)


def raw(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join((status, *lines, "", "")).encode("latin-1")


def forget() -> None:
    response_head._heads.clear()
    response_head._without_digits.clear()


SEEN = ("status", "length", "chunked", "content_type", "keep_alive", "retry_after")
SEEN += ("event_stream", "tells_usage", "empty", "ready")


def seen(head: ResponseHead) -> dict[str, object]:
    return {name: getattr(head, name) for name in SEEN} | {"start": head.shape.start}


REFUSED = {
    "a sign": raw("Content-Length: +5"),
    "no digits": raw("Content-Length: "),
    "two numbers": raw("Content-Length: 5 5"),
    "twice": raw("Content-Length: 5", "Content-Length: 5"),
    "twice, differently": raw("Content-Length: 5", "X: y", "Content-Length: 7"),
    "beyond 64 bits": raw("Content-Length: 99999999999999999999"),
    "a length and chunks": raw("Content-Length: 5", "Transfer-Encoding: chunked"),
    "another coding": raw("Transfer-Encoding: gzip, chunked"),
    "folded": raw("Content-Length: 5", " 6"),
    "no colon": raw("Content-Length"),
    "another protocol": raw("Upgrade: x", "Connection: upgrade", status="HTTP/1.1 101 Switching"),
    "not HTTP/1": raw("Content-Length: 5", status="HTTP/2 200 OK"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_whatever_was_seen_before(name: str) -> None:
    forget()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\w"):
            read_head(REFUSED[name])
        for primer in (raw("Content-Length: 5"), raw("Content-Length: 77", "X: y")):
            assert read_head(primer).length in (5, 77)


def test_known_again_with_another_length() -> None:
    forget()
    first = read_head(raw("Server: x", "content-length: 10", "Content-Type: application/json"))
    again = read_head(raw("Server: x", "content-length: 207", "Content-Type: application/json"))
    assert (first.length, again.length) == (10, 207)
    assert b"content-length: 207\r\n" in again.ready
    assert {**seen(first), "length": 0, "ready": b""} == {**seen(again), "length": 0, "ready": b""}


def test_known_again_with_the_id_of_its_own_request() -> None:
    forget()
    heads = [
        response_head.read_head(
            raw("Server: x", f"x-request-id: {number}", "Content-Length: 5"), b"%d" % number
        )
        for number in (9, 10, 1111)
    ]
    assert heads[0] is heads[1] is heads[2]
    assert b"x-request-id" not in heads[0].shape.start
    assert len(response_head._heads) == 1


def test_another_id_is_no_reason_to_forget_what_is_in_the_line() -> None:
    forget()
    good = raw("x-request-id: 7-e", "Content-Length: 5")
    assert read_head(good).length == 5
    for line in ("x-request-id: 7-e\n", "x-request-id: 7-e\x00", "x-request-id : 7-e"):
        with pytest.raises(ValueError, match="head"):
            read_head(raw(line, "Content-Length: 5"))


def test_caches_are_bounded() -> None:
    forget()
    for number in range(3 * response_head._CACHED_HEADS):
        assert read_head(raw(f"X-Serial: {number}", f"Content-Length: {number}")).length == number
    assert len(response_head._heads) <= response_head._CACHED_HEADS
    assert len(response_head._without_digits) <= response_head._CACHED_HEADS
    read_head(raw("X-Long: " + "y" * 4096))
    assert max(map(len, response_head._heads)) < 4096


LINES = st.sampled_from(
    [
        "Content-Type: application/json",
        "content-type: Text/Event-Stream; charset=utf-8",
        "Connection: close",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Retry-After: 3",
        "Transfer-Encoding: chunked",
        "X-Length: 12",
        "x-request-id: 7-e",
        "x-request-id: 7-e2",
        "X-Request-Id: 7-e",
        "x-request-id: \x007-e",
        "X-Of-Another: x-request-id: 7-e",
        "Content-Length: 12",
        "Content-Length:12",
        "CONTENT-LENGTH: 3",
        "content-length: 0",
        "content-length: 012",
        "Content-Length: 123456789012345678",
        "Content-Length: 1234567890123456789",
        "Content-Length: x",
    ]
)
STATUS = st.sampled_from(
    ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 204 No", "HTTP/1.1 100 C"]
)
HEADS = st.builds(lambda lines, status: raw(*lines, status=status), st.lists(LINES), STATUS)


def outcome(head: bytes) -> dict[str, object] | None:
    try:
        return seen(read_head(head))
    except ValueError:
        return None


@given(st.lists(HEADS, min_size=1, max_size=30))
def test_caches_change_nothing(heads: list[bytes]) -> None:
    forget()
    with_caches = [outcome(head) for head in heads]
    for head, expected in zip(heads, with_caches, strict=True):
        forget()
        assert outcome(head) == expected


def again(data: bytes, last: ResponseHead) -> tuple[ResponseHead | None, int]:
    return response_head.again(data, last.shape, REQUEST_ID)


@given(st.lists(HEADS, min_size=1, max_size=10), st.sampled_from([b"", b"{}", b"\r\n\r\n12"]))
def test_a_connections_last_head_changes_nothing(heads: list[bytes], body: bytes) -> None:
    """What is recognised by the last head is what would be read without it, and ends where it
    ends; whatever was cut off is not recognised."""
    forget()
    last: ResponseHead | None = None
    for head in heads:
        if last is not None and last.shape.after:
            found, end = again(head + body, last)
            if found is not None:
                assert end == len(head)
                assert seen(found) == seen(read_head(head))
                assert again(head[:-1], last) == (None, 0)
        try:
            last = read_head(head)
        except ValueError:
            last = None


@pytest.mark.parametrize(
    "lines",
    [
        ("Server: x", "content-length: %s", "Content-Type: application/json"),
        ("content-length: %s", "x-request-id: %i"),
        ("x-request-id: %i", "content-length: %s", "Content-Type: application/json"),
    ],
)
def test_the_next_head_on_a_connection_is_recognised(lines: tuple[str, ...]) -> None:
    def of(length: str, id_: str) -> bytes:
        return raw(*(line.replace("%s", length).replace("%i", id_) for line in lines))

    forget()
    last = response_head.read_head(of("10", "first"), b"first").shape
    for length in ("207", "0207", "3"):
        data = of(length, "the-second")
        found, end = response_head.again(data + b"{}", last, b"the-second")
        assert found is not None
        assert (found.length, end) == (int(length), len(data))
        assert b"content-length: %d\r\n" % int(length) in found.ready
        assert b"second" not in found.ready


def test_the_id_of_another_request_is_not_recognised() -> None:
    forget()
    last = read_head(raw("x-request-id: 7-e", "Content-Length: 5"))
    assert again(raw("x-request-id: 7-f", "Content-Length: 5"), last) == (None, 0)
    assert again(raw("x-request-id: 7-e", "Content-Length: 5"), last)[0] is not None
