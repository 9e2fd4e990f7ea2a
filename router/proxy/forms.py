"""A field of a multipart/form-data body, as uploads of audio and images name their model."""

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)

MAX_PARTS = 64
"""Parts looked at; a form of an API call has about ten."""

MAX_HEAD = 4096
"""Bytes of a part's head."""

MAX_VALUE = 512
"""Bytes of a model name."""


def field(body: bytes, content_type: bytes, name: bytes) -> str | None:
    """The value of the first part called ``name``, None if there is none or it is too long."""
    for start, end in values(body, content_type, name):
        return body[start:end].decode("utf-8", "replace") if end - start <= MAX_VALUE else None
    return None


def values(body: bytes, content_type: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the values of the parts called ``name`` begin and end."""
    matched = _BOUNDARY.search(content_type)
    if matched is None:
        return
    delimiter = b"\r\n--" + (matched[1] or matched[2])
    wanted = re.compile(rb'[;\s]name="?' + re.escape(name) + rb'"?(?:[;\s]|$)', re.IGNORECASE)
    # The first delimiter has no CRLF in front of it when there is no preamble.
    position = -2 if body.startswith(delimiter[2:]) else body.find(delimiter)
    for _ in range(MAX_PARTS):
        if position == -1:
            return
        head = position + len(delimiter)
        head_end = body.find(b"\r\n\r\n", head, head + MAX_HEAD)
        if head_end < 0:
            return
        position = body.find(delimiter, head_end)
        if wanted.search(body[head:head_end]):
            yield head_end + 4, position if position >= 0 else len(body)


def beyond(body: bytes, content_type: bytes) -> bool:
    """Whether there may be parts that :func:`values` does not look at."""
    matched = _BOUNDARY.search(content_type)
    if matched is None:
        return True
    delimiter = b"\r\n--" + (matched[1] or matched[2])
    position = -2 if body.startswith(delimiter[2:]) else body.find(delimiter)
    for _ in range(MAX_PARTS + 1):
        head = position + len(delimiter)
        if position == -1 or body.startswith(b"--", head):
            return False
        head_end = body.find(b"\r\n\r\n", head, head + MAX_HEAD)
        if head_end < 0:
            return True
        position = body.find(delimiter, head_end)
    return True
