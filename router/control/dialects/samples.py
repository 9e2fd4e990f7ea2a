"""Looks a few samples up on a metrics page.

A page has hundreds of lines of which three matter, once a second, for every engine: they are
found in the bytes instead of parsing the page. Values that are no finite numbers are left out.
"""

import math
import re
from collections.abc import Iterator, Mapping

_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

Labels = Mapping[bytes, bytes]


def values(page: bytes, name: bytes) -> list[float]:
    """Of all samples of a family, whatever their labels."""
    return [value for _, value in _samples(page, name)]


def labelled(page: bytes, name: bytes) -> list[tuple[Labels, float]]:
    """All samples of a family with their labels, whose values stay escaped."""
    return [(dict(_LABEL.findall(labels)), value) for labels, value in _samples(page, name)]


def _samples(page: bytes, name: bytes) -> Iterator[tuple[bytes, float]]:
    start = 0
    while (found := page.find(name, start)) >= 0:
        end = page.find(b"\n", found)
        end = len(page) if end < 0 else end
        start = end
        rest = page[found + len(name) : end]
        starts_line = found == 0 or page[found - 1 : found] == b"\n"
        if not starts_line or rest[:1] not in (b"{", b" "):
            continue  # a comment, or a longer name
        # A label value may hold any character, so the last brace counts; a timestamp may follow.
        behind = rest.rfind(b"}") + 1
        words = rest[behind:].split()
        try:
            value = float(words[0])
        except (IndexError, ValueError):
            continue
        if math.isfinite(value):
            yield rest[:behind], value
