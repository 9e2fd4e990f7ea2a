"""What of a request decides where a hashing balancer sends it.

A source is one text of the request; its hash is xxHash64 with seed 0, as Envoy's hash policies
compute it. ``prefix`` is a hash already and is taken as it is. Several sources combine as Envoy's
policies do: each further hash is XORed to what there is, rotated left by one bit.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import msgspec
from xxhash import xxh64_intdigest

from router.core.clock import Rng
from router.core.model import LlmRequest

SOURCE_PATTERN = r"^(prefix|user|tenant|source_ip|header:.+|cookie:.+)$"

KeySources = Annotated[
    tuple[Annotated[str, msgspec.Meta(pattern=SOURCE_PATTERN)], ...],
    msgspec.Meta(
        description=(
            "What is hashed: prefix (the beginning of the prompt), user (the body's field), "
            "tenant, source_ip, header:NAME or cookie:NAME. A request that has none of it goes to "
            "an endpoint at random."
        ),
        extra={"single": True},
        min_length=1,
        max_length=8,
    ),
]
Combination = Annotated[
    Literal["all", "first"],
    msgspec.Meta(
        description=(
            "With several keys: all that the request has count together, or only the first that "
            "it has (Envoy's terminal)."
        )
    ),
]

_64_BITS = (1 << 64) - 1

Reader = Callable[[LlmRequest], int | None]


class HashKey:
    """Reads the key of a request.

    Args:
        sources: at least one, each of the form of ``SOURCE_PATTERN``.
        combine: ``all`` or ``first``.
    """

    __slots__ = ("_first", "_readers")

    def __init__(self, sources: Sequence[str], combine: Literal["all", "first"] = "all") -> None:
        self._first = combine == "first"
        self._readers = tuple(_reader(source) for source in sources)

    def of(self, request: LlmRequest) -> int | None:
        """64 bits, or None for a request that has none of the sources. Empty values are none."""
        key: int | None = None
        for read in self._readers:
            value = read(request)
            if value is None:
                continue
            if self._first:
                return value
            key = value if key is None else ((key << 1 | key >> 63) & _64_BITS) ^ value
        return key


def random_key(rng: Rng) -> int:
    """A key for a request that has none; 53 bits of chance in the upper bits."""
    return int(rng.random() * (1 << 53)) << 11


def _reader(source: str) -> Reader:
    kind, _, name = source.partition(":")
    if kind == "prefix":
        return _prefix
    if kind == "user":
        return _user
    if kind == "tenant":
        return _tenant
    if kind == "source_ip":
        return _source_ip
    if kind == "header":
        return _header(name.lower().encode())
    return _cookie(name.encode())


def _prefix(request: LlmRequest) -> int | None:
    return request.prefix_hash


def _user(request: LlmRequest) -> int | None:
    return xxh64_intdigest(request.user.encode()) if request.user else None


def _tenant(request: LlmRequest) -> int | None:
    return xxh64_intdigest(request.tenant.encode()) if request.tenant else None


def _source_ip(request: LlmRequest) -> int | None:
    # A dash stands for a peer without an address, such as a Unix socket's.
    return xxh64_intdigest(request.client.encode()) if request.client not in ("", "-") else None


def _header(name: bytes) -> Reader:
    def read(request: LlmRequest) -> int | None:
        value = request.header(name)
        return xxh64_intdigest(value) if value else None

    return read


def _cookie(name: bytes) -> Reader:
    def read(request: LlmRequest) -> int | None:
        value = request.cookie(name)
        return xxh64_intdigest(value) if value else None

    return read
