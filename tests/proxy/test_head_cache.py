"""Heads that were seen before are not checked again; nothing may pass for one that was."""

import pytest

from router.core import errors
from router.proxy.headers import RequestHead
from router.proxy.known_heads import again, parse_request


def raw(length: bytes = b"Content-Length: 12", *more: bytes) -> bytes:
    lines = (b"POST /v1/chat/completions HTTP/1.1", b"Host: a", b"Accept: */*", length, *more)
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def test_a_known_head_differs_in_length_and_id_alone() -> None:
    first, second = (parse_request(raw(b"Content-Length: %d" % n), 100) for n in (12, 345))
    assert (first.length, second.length) == (12, 345)
    assert first.request_id != second.request_id
    for name in ("method", "verb", "target", "path", "host", "keep_alive", "http11"):
        assert getattr(second, name) == getattr(first, name)
    assert dict(first.fields) | {b"content-length": b"345"} == dict(second.fields)
    head = second.upstream(b"1.2.3.4", 345, False)
    assert b"content-length: 345\r\n" in head
    assert second.request_id in head
    assert b"\r\nAccept: */*\r\n" in head


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: ",
        b"Content-Length: 1 2",
        b"Content-Length: +12",
        b"Content-Length: 12,12",
        b"Content-Length: \x0012",
        b"Content-Length: " + b"1" * 19,
        "Content-Length: \u0661".encode(),
    ],
)
def test_no_other_length_passes_for_the_one_that_was_checked(line: bytes) -> None:
    parse_request(raw(), 100)
    with pytest.raises(errors.RouterError):
        parse_request(raw(line), 100)


def test_a_second_length_is_no_part_of_the_known_head() -> None:
    parse_request(raw(), 100)
    with pytest.raises(errors.BadRequest):
        parse_request(raw(b"Content-Length: 12", b"Content-Length: 12"), 100)


def test_a_decoy_is_not_cut() -> None:
    first = parse_request(raw(b"X-Content-Length: 12"), 100)
    second = parse_request(raw(b"X-Content-Length: 13"), 100)
    assert first.length is second.length is None
    assert b"X-Content-Length: 13" in second.upstream(b"p", None, False)


def test_ids_of_the_clients_own_are_kept_apart() -> None:
    for number in (b"1", b"2"):
        head = parse_request(raw(b"Content-Length: 2", b"X-Request-Id: id-" + number), 100)
        assert head.request_id == b"id-" + number


def test_a_lower_limit_of_header_lines_holds_for_known_heads() -> None:
    parse_request(raw(), 100)
    with pytest.raises(errors.HeadTooLarge):
        parse_request(raw(), 2)


def facts(head: RequestHead) -> dict[str, object]:
    names = ("length", "fields", "chunked", "path", "keep_alive", "front", "middle")
    return {name: getattr(head, name) for name in names}


@pytest.mark.parametrize("length", [b"0", b"7", b"0012", b"123456789012345678"])
def test_the_next_head_on_a_connection_is_recognised(length: bytes) -> None:
    shape = parse_request(raw(), 100).shape
    data = raw(b"Content-Length: " + length)
    found, end = again(data + b"{}\r\n\r\n", shape, 1000, 100)
    assert found is not None
    assert end == len(data)
    assert facts(found) == facts(parse_request(data, 100))


@pytest.mark.parametrize(
    "data",
    [
        raw(b"Content-Length: "),
        raw(b"Content-Length: " + b"1" * 19),
        raw(b"Content-Length: 1 2"),
        raw(b"Content-Length:  12"),
        raw(b"Content-Length: 12", b"Content-Length: 12"),
        raw(b"Content-Length: 12", b"X: y"),
        raw(b"content-length: 12"),
        raw().replace(b"POST", b"PUTS"),
        raw()[:-1],
        raw()[:-4],
        raw()[:40],
        b"",
    ],
)
def test_nothing_else_is_recognised_by_the_last_head(data: bytes) -> None:
    shape = parse_request(raw(), 100).shape
    assert again(data, shape, 1000, 100) == (None, 0)


def test_limits_hold_for_a_head_that_is_recognised() -> None:
    shape, size = parse_request(raw(), 100).shape, len(raw())
    assert again(raw(), shape, size, 3)[1] == size
    assert again(raw(), shape, size - 1, 100) == (None, 0)
    assert again(raw(), shape, 1000, 2) == (None, 0)


def test_a_head_with_an_id_of_its_own_is_not_for_recognition() -> None:
    head = parse_request(raw(b"Content-Length: 2", b"X-Request-Id: mine"), 100)
    assert head.shape.after == b""


def test_ids_are_version_4_uuids_and_differ() -> None:
    ids = {parse_request(raw(), 100).request_id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(id_[14:15] == b"4" and id_[19:20] in b"89ab" and len(id_) == 36 for id_ in ids)
