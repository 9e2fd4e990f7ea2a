"""What routers tell each other of prompts, and the bytes in which they do.

A note says that a request was sent somewhere, that its first token has come, or that it is over;
or it is part of what a router is told that has just joined. Notes travel in envelopes of a few
kilobytes, which may get lost, come twice or out of order: who reads them is a little wrong until
the next roster of what is under way. An envelope to everybody has a number, by which readers know
those that they have missed and leave out those that come late. A request costs its router about
250 bytes, of which 8 are for each checkpoint of its prompt.

Nothing in a note is trusted beyond its type and its bounds: an endpoint that nobody knows, or a
serial that nobody was told of, means nothing.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from router.core.prefix.blocks import DEPTHS

VERSION: Final = 1
"""Of the notes. Routers of another one are not understood, and not listened to."""

ROOM: Final = 4096
"""Bytes of notes in an envelope, about: twenty requests, which a reader enters in half a
millisecond."""

PORTION: Final = 400
"""Entries in one note of what is remembered, or under way."""

ECHOES: Final = 8
"""In one roster, of as many routers."""

_WORD: Final = 8
Words = Annotated[bytes, msgspec.Meta(max_length=_WORD * PORTION)]
Prefixes = Annotated[bytes, msgspec.Meta(max_length=_WORD * len(DEPTHS))]
Name = Annotated[str, msgspec.Meta(max_length=512)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Serial = Annotated[int, msgspec.Meta(ge=1, le=1 << 60)]
Serials = Annotated[tuple[Serial, ...], msgspec.Meta(max_length=PORTION)]


class Note(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of all notes; ``serial`` numbers the requests of their origin."""


class Sent(Note, frozen=True, array_like=True, gc=False, tag=1):
    """A request was sent to an endpoint."""

    serial: Serial
    endpoint: Name
    tokens: Amount
    prompt_bytes: Bytes
    conversation: int
    streamed: bool
    checkpoints: Prefixes


class FirstToken(Note, frozen=True, array_like=True, gc=False, tag=2):
    """Of a request that streams."""

    serial: Serial


class Ended(Note, frozen=True, array_like=True, gc=False, tag=3):
    """``outcome``: of ``core.host.Outcome``."""

    serial: Serial
    outcome: int


class Echo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a router's roster: its number, and the seconds since it was heard."""

    origin: int
    round: Serial
    held: Amount


Echoes = Annotated[tuple[Echo, ...], msgspec.Meta(max_length=ECHOES)]


class Roster(Note, frozen=True, array_like=True, gc=False, tag=4):
    """All requests under way whose serials lie between two; also the sign that their router lives.

    ``entries``: that its mirrors have, for those who look for somebody to ask. ``round``: the
    roster's number, 0 of what only answers a hello; ``echoes``: of others' rosters. Routers that
    know of neither leave them out.
    """

    first: int
    last: int
    waiting: Serials
    decoding: Serials
    entries: int
    round: Annotated[int, msgspec.Meta(ge=0, le=1 << 60)] = 0
    echoes: Echoes = ()


class Hello(Note, frozen=True, array_like=True, gc=False, tag=5):
    """A router has just begun: what have you under way?"""


class UnderWay(Note, frozen=True, array_like=True, gc=False, tag=6):
    """A request that was sent ``age`` seconds ago; ``cost``: its predicted seconds of prefill."""

    serial: Serial
    endpoint: Name
    tokens: Amount
    cost: Amount
    age: Amount
    streamed: bool
    decoding: bool


class Ask(Note, frozen=True, array_like=True, gc=False, tag=7):
    """What do you remember?"""


class Learned(Note, frozen=True, array_like=True, gc=False, tag=8):
    """Of a cluster: what answers have taught of its caches, prompts and the mirror's worth."""

    cluster: Name
    capacity: Amount
    corrections: Bytes
    bytes_per_token: Annotated[float, msgspec.Meta(ge=0.1, le=64)]
    believed: bool
    error: Annotated[float, msgspec.Meta(ge=0, le=1)]
    answers: Bytes


class Held(Note, frozen=True, array_like=True, gc=False, tag=9):
    """Part of an endpoint's page, the newest first, and the seconds that its pace rests on.

    ``ages``: as many words as ``checkpoints``, in blocks that were new to the endpoint since.
    """

    endpoint: Name
    observed: Amount
    predicted: Amount
    checkpoints: Words
    ages: Words


class EndsAt(Note, frozen=True, array_like=True, gc=False, tag=10):
    """Where prompts ended, the newest first; ``bytes_``: of each prompt, by its key."""

    cluster: Name
    keys: Words
    bytes_: Words


class Told(Note, frozen=True, array_like=True, gc=False, tag=11):
    """That is all."""


class Bye(Note, frozen=True, array_like=True, gc=False, tag=12):
    """The origin has ended; said by itself, or on its behalf by whoever saw it end."""


AnyNote = (
    Sent
    | FirstToken
    | Ended
    | Roster
    | Hello
    | UnderWay
    | Ask
    | Learned
    | Held
    | EndsAt
    | Told
    | Bye
)


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Notes of one router.

    ``machine`` and ``origin``: drawn at random when the machine's router and this process of it
    began. ``to``: the origin that it is for, 0: everybody. ``number``: of those to everybody, from
    1; others have 0.
    """

    version: int
    machine: int
    origin: int
    to: int
    number: int
    notes: msgspec.Raw


class Unreadable(ValueError):
    """No envelope of this version, or no good notes in it."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Envelope).decode
_decode_notes: Final = msgspec.msgpack.Decoder(list[AnyNote]).decode


def seal(machine: int, origin: int, to: int, number: int, notes: Sequence[Note]) -> bytes:
    return _encode(Envelope(VERSION, machine, origin, to, number, msgspec.Raw(_encode(notes))))


def address(data: bytes) -> Envelope:
    """The envelope, without a look at its notes. Raises Unreadable."""
    try:
        envelope = _decode(data)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from None
    if envelope.version != VERSION:
        raise Unreadable(f"version {envelope.version}, not {VERSION}")
    return envelope


def notes(envelope: Envelope) -> list[AnyNote]:
    """Raises Unreadable."""
    try:
        return _decode_notes(envelope.notes)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from None


def pack(words: Sequence[int]) -> bytes:
    """Numbers of 64 bits as bytes."""
    return struct.pack(f"<{len(words)}Q", *words)


def unpack(data: bytes) -> tuple[int, ...]:
    """What ``pack`` made; a last word that is not whole is left out."""
    count = len(data) // _WORD
    return struct.unpack_from(f"<{count}Q", data)
