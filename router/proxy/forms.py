"""A field of a multipart/form-data body, as uploads of audio and images name their model."""

import re
from collections.abc import Iterator

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)

MAX_PARTS = 64
"""Parts looked at; a form of an API call has about ten."""

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
        head_end = body.find(b"\r\n\r\n", head, head + 4096)
        if head_end < 0:
            return
        position = body.find(delimiter, head_end)
        if wanted.search(body[head:head_end]):
            yield head_end + 4, position if position >= 0 else len(body)
