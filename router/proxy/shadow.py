"""Sends copies of requests to mirrors, and reads their answers for nothing but their usage.

The copy shares the request's bytes and nothing else: it has its own connection and its own clock,
and the client's relay is never told of it. Its answer is dropped as it comes, up to a bound. Where
a kept connection turns out to be closed the copy is sent once more on a fresh one, as any request.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from router.core import mirror
from router.core.mirror import Ending, Shadow, Skipped
from router.proxy.accounting import shadow_record
from router.proxy.client import Client
from router.proxy.credentials import with_credential
from router.proxy.response_head import ResponseHead
from router.proxy.timers import NEVER, Timed
from router.proxy.upstream import Upstream
from router.proxy.usage import usage

if TYPE_CHECKING:
    from router.proxy.relay import Relay
    from router.proxy.server import ProxyServer

MAX_ANSWER: Final = 16 << 20
"""Bytes of an answer that are read; beyond, the copy is given up."""

TAIL: Final = 2048
SUFFIX: Final = b"-shadow"


class Alarm(Timed):
    """A copy's time is over."""

    __slots__ = ("copy",)

    def __init__(self, copy: "Copy") -> None:
        super().__init__()
        self.copy: Copy | None = copy

    def expired(self, now: float) -> None:
        if self.copy is not None:
            self.copy.end("timed_out", now)


class Copy(Client):
    """One copy on its way, and its answer as far as anybody looks at it.

    Attributes:
        shadow: the core's side of it.
        exchange: the client's, for the log.
        pieces: of the body; let go as soon as an answer begins.
    """

    __slots__ = (
        "_alarm",
        "_mended",
        "_peer",
        "_received",
        "_server",
        "_size",
        "_tail",
        "_upstream",
        "began_at",
        "exchange",
        "pieces",
        "shadow",
        "started_wall",
        "status",
    )

    def __init__(
        self, server: "ProxyServer", relay: "Relay", shadow: Shadow, pieces: list[bytes]
    ) -> None:
        super().__init__(relay.head)
        self._server = server
        self._peer = relay.downstream.peer_bytes
        self._mended = False
        self._received = 0
        self._size = sum(map(len, pieces))
        self._tail: deque[bytes] = deque(maxlen=4)
        self._upstream: Upstream | None = None
        self._alarm = Alarm(self)
        self.exchange = relay.exchange
        self.shadow = shadow
        self.pieces = pieces
        self.status = 0
        self.began_at = server.clock()
        self.started_wall = server.wall()

    def begin(self) -> None:
        server = self._server
        server.buffered += self._size
        server.wheel.set(self._alarm, self.began_at + self.shadow.mirror.timeout)
        pool = server.pool(self.shadow.endpoint.id)
        upstream = pool.take()
        if upstream is None:
            self._dial()
        else:
            self._upstream = upstream
            self._send(upstream)

    def _dial(self) -> None:
        server, endpoint = self._server, self.shadow.endpoint
        self._upstream = upstream = Upstream(server, endpoint, server.pool(endpoint.id))
        upstream.dial(self)

    def _send(self, upstream: Upstream) -> None:
        head, mirrored = self.head, self.shadow.mirror
        cluster = self._server.director.snapshot.clusters.get(mirrored.cluster)
        if cluster is not None and cluster.credential is not None:
            head = with_credential(head, cluster.credential)
        length = self._size if head.chunked or head.length is not None else None
        raw = head.upstream(self._peer, length, False)
        upstream.send(self, [shadowed(raw) if mirrored.host_suffix else raw, *self.pieces])
        self.uploaded = True

    # --- what the connection tells --------------------------------------------------------------

    def connected(self, upstream: Upstream) -> None:
        self._send(upstream)

    def connect_failed(self, upstream: Upstream) -> None:
        self._upstream = None
        self.end("failed", self._server.clock())

    def upload_unblocked(self) -> None:
        """The copy was written at once; nobody waits."""

    def response_began(
        self, upstream: Upstream, head: ResponseHead, data: bytes, now: float
    ) -> None:
        self.status = head.status
        self._let_go()
        self.body(data, now)

    def body(self, data: bytes, now: float) -> None:
        self._received += len(data)
        if self._received > MAX_ANSWER:
            self.end("cancelled", now)
        elif data:
            self._tail.append(data if len(data) <= TAIL else data[-TAIL:])

    def response_ended(self, now: float) -> None:
        self._upstream = None
        self.end("error" if self.status >= 500 else "completed", now)

    def upstream_lost(self, upstream: Upstream, protocol: bool) -> None:
        if upstream.reused and not upstream.heard and not protocol and not self._mended:
            self._mended = True
            self._dial()
        else:
            self._upstream = None
            self.end("failed", self._server.clock())

    # --- its end --------------------------------------------------------------------------------

    def _let_go(self) -> None:
        self._server.buffered -= self._size
        self._size = 0
        self.pieces = []

    def end(self, ending: Ending, now: float) -> None:
        """Nothing remains of it; later calls do nothing."""
        if self.shadow.ended:
            return
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()
        self._let_go()
        self._alarm.copy = None
        self._alarm.deadline = NEVER
        tokens = usage(self._tail)
        prompt, completion = tokens[0], tokens[1]
        known = None if prompt is None else prompt + (completion or 0)
        self.shadow.end(ending, known, now)
        self._server.copies.discard(self)
        if self.shadow.mirror.log and self.exchange is not None:
            self._server.recorder.shadow_ended(
                shadow_record(self, self.exchange, ending, self._received, tokens, now)
            )
        self.exchange = None

    def __repr__(self) -> str:
        return f"<Copy {self.shadow!r} status={self.status}>"


def begin(relay: "Relay", server: "ProxyServer", pieces: list[bytes], now: float) -> None:
    """Send the copies that the route wants of a request whose first attempt has begun."""
    assert relay.exchange is not None
    lacks: Skipped | None = None
    if not relay.whole:
        lacks = "body"
    elif server.draining or server.buffered + relay.bytes_in > server.limits.max_buffered:
        lacks = "memory"
    for shadow in mirror.begin(relay.exchange, lacks, now):
        copy = Copy(server, relay, shadow, list(pieces))
        server.copies.add(copy)
        copy.begin()


def shadowed(raw: bytes) -> bytes:
    """A request head whose Host says that it is a copy, before the port if there is one."""
    lines = raw.split(b"\r\n")
    for index, line in enumerate(lines):
        name, _, value = line.partition(b":")
        if name.lower() == b"host":
            host = value.strip()
            at = host.rfind(b":")
            at = at if at > host.rfind(b"]") else len(host)
            lines[index] = name + b": " + host[:at] + SUFFIX + host[at:]
            break
    return b"\r\n".join(lines)
