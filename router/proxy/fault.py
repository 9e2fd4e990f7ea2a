"""What a route's faults do to a request on its way: hold it, and tamper with its stream.

A ``Hold`` is a clock of its own on the wheel, since the connection's is in use while a body comes.
A ``Gate`` stands in a stream whose events are counted: it takes the engine's framing off, lets
whole events through to the mark and asks the exchange what is to happen there. While it is closed
the engine is not read; what was read before is kept, one read at most.
"""

import re
from typing import TYPE_CHECKING, Final

from router.core import events
from router.core.events import Stage
from router.proxy.chunked import LAST_CHUNK, ChunkedDecoder, ChunkError, chunk
from router.proxy.timers import NEVER, Timed

if TYPE_CHECKING:
    from router.proxy.relay import Relay
    from router.proxy.reply import Reply
    from router.proxy.response_head import ResponseHead
    from router.proxy.server import ProxyServer

_EVENT_END: Final = re.compile(rb"\n\n|\r\n\r\n|\r\r")
_LONGEST_END: Final = 4


class Hold(Timed):
    """Stands by for a while, then tells the exchange."""

    __slots__ = ("_relay", "_server")

    def __init__(self, relay: "Relay", server: "ProxyServer") -> None:
        super().__init__()
        self._server = server
        self._relay: Relay | None = relay

    def begin(self, relay: "Relay", seconds: float, now: float) -> None:
        """Stand by for so long."""
        relay.total_deadline += seconds
        if relay.whole:  # nothing else is waited for
            self._server.wheel.set(relay.downstream, relay.total_deadline)
        self._server.wheel.set(self, now + seconds)

    @property
    def closed(self) -> bool:
        """Nothing of the response goes on to the client."""
        return False

    def ended(self) -> bool:
        """The engine's response is complete; whether its end has to wait."""
        return False

    def cancel(self) -> None:
        """The exchange is over."""
        self._relay = None
        self.deadline = NEVER

    def expired(self, now: float) -> None:
        if self._relay is not None:
            self._relay.fault = None
            self._relay.feed(events.TimedOut(Stage.HOLD), now)


class Gate(Hold):
    """Counts the events of one response.

    Args:
        reply: made to take what the gate writes for it.
        mark: the event after which the exchange is asked.
    """

    __slots__ = ("_decoder", "_ended", "_events", "_framed", "_kept", "_mark", "_open", "_tail")

    def __init__(
        self,
        relay: "Relay",
        server: "ProxyServer",
        reply: "Reply",
        head: "ResponseHead",
        mark: int,
    ) -> None:
        super().__init__(relay, server)
        self._mark = mark
        self._events = 0
        self._tail = b""
        self._open = True
        self._kept = b""
        self._ended = False
        self._decoder = ChunkedDecoder() if head.chunked else None
        self._framed = relay.head.http11 and head.length is None
        reply.verbatim = False
        if self._framed:
            reply.last = LAST_CHUNK

    @property
    def closed(self) -> bool:
        return not self._open

    def take(self, data: bytes) -> None:
        """A read of the response's body, in the engine's framing."""
        if self._decoder is not None:
            try:
                data = b"".join(self._decoder.feed(data))
            except ChunkError:
                return  # the connection's parser objects as well, and ends the exchange
        if self._open:
            self._forward(data)
        else:
            self._kept += data

    def _forward(self, data: bytes) -> None:
        """Let events through as far as the gate stays open."""
        while data and self._open and (relay := self._relay) is not None:
            end = self._end_of_marked(data)
            self._write(relay, data if end is None else data[:end])
            if end is None:
                return
            data = data[end:]
            relay.feed(events.MARK, self._server.clock())
        self._kept = data

    def _end_of_marked(self, data: bytes) -> int | None:
        """Where the marked event ends, None if it goes on beyond ``data`` or there is no mark."""
        before = len(self._tail)
        text = self._tail + data
        for found in _EVENT_END.finditer(text):
            if found.end() <= before:
                continue
            self._events += 1
            if self._events == self._mark:
                self._tail = b""
                return found.end() - before
        self._tail = text[-_LONGEST_END + 1 :]
        return None

    def _write(self, relay: "Relay", data: bytes) -> None:
        if self._framed:
            data = chunk(data)
        relay.bytes_out += len(data)
        relay.downstream.transport.write(data)

    # --- what the exchange wants ----------------------------------------------------------------

    def stall(self, seconds: float, now: float) -> None:
        """Close for a while."""
        relay = self._relay
        assert relay is not None
        self._open = False
        relay.client_blocked()
        self._server.wheel.set(relay.downstream, relay.total_deadline)  # silence is on purpose
        self._server.wheel.set(self, now + seconds)

    def go_on(self, mark: int) -> None:
        """Be open, to the next mark or, if that is 0, to the end."""
        self._open = True
        self._mark = mark

    def ended(self) -> bool:
        self._ended = not self._open
        return self._ended

    def expired(self, now: float) -> None:
        relay = self._relay
        if relay is None:
            return
        relay.feed(events.TimedOut(Stage.HOLD), now)
        kept, self._kept = self._kept, b""
        self._forward(kept)
        if not self._open or self._relay is None:
            return
        if self._ended:
            relay.response_ended(now)
        elif not relay.downstream.write_paused:
            relay.client_unblocked()


def act(relay: "Relay", server: "ProxyServer", effect: events.Effect, now: float) -> None:
    """Carry out an effect that only faults have."""
    if isinstance(effect, events.Hold):
        relay.fault = hold = Hold(relay, server)
        hold.begin(relay, effect.seconds, now)
    elif isinstance(relay.fault, Gate):
        if isinstance(effect, events.Stall):
            relay.fault.stall(effect.seconds, now)
        elif isinstance(effect, events.Relay):
            relay.fault.go_on(effect.mark)


def begin(
    relay: "Relay", server: "ProxyServer", head: "ResponseHead", data: bytes, now: float
) -> bool:
    """Put a gate before a response that is to be tampered with; False for any other.

    Args:
        data: what came of the body with the head.
    """
    assert relay.exchange is not None and relay.exchange.injection is not None
    reply = relay.reply
    assert reply is not None
    marks = relay.exchange.injection.marks
    if not marks or not head.event_stream:
        return False
    relay.fault = Gate(relay, server, reply, head, marks[0][0])
    relay.bytes_out = len(reply.head)
    relay.downstream.transport.write(reply.head)
    if data:
        relay.body(data, now)
    return True
