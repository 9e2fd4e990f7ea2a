"""Several attempts of one request under way at one time; see ``router.core.retry.race``.

Until one has won, each is a ``Contender``: to its connection it is what a relay is, and it has a
clock of its own on the wheel. The head of a response is held until the first byte of its body has
come. Then the winner's connection is handed to the relay, as if there had never been another.
"""

from typing import TYPE_CHECKING

from router.core import events
from router.core.events import Stage
from router.core.model import Endpoint
from router.proxy.client import Client
from router.proxy.response_head import ResponseHead
from router.proxy.timers import NEVER, Timed
from router.proxy.upstream import Upstream

if TYPE_CHECKING:
    from router.proxy.relay import Relay
    from router.proxy.server import ProxyServer


class Clock(Timed):
    """A time-out of a race or of one of its attempts.

    Once stopped it holds nothing: the wheel may keep it until the time is over.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: "Race | Contender") -> None:
        super().__init__()
        self._owner: Race | Contender | None = owner

    def expired(self, now: float) -> None:
        if self._owner is not None:
            self._owner.expired(now)

    def stop(self) -> None:
        self.deadline = NEVER
        self._owner = None


class Race:
    """The attempts of one request. Its own time-out is that of the next hedge.

    Args:
        relay: whose request it is; it must have been read to its end.
    """

    __slots__ = ("_clock", "_contenders", "relay", "server")

    def __init__(self, relay: "Relay", server: "ProxyServer") -> None:
        self._clock = Clock(self)
        self.relay = relay
        self.server = server
        self._contenders: dict[int, Contender] = {}

    def start(self, effect: events.Connect | events.SendToo, now: float) -> None:
        """Send the request to one more endpoint."""
        contender = Contender(self, effect.attempt, effect.first_byte_timeout)
        self._contenders[effect.attempt] = contender
        if effect.hedge_after:
            self.server.wheel.set(self._clock, now + effect.hedge_after)
        contender.begin(effect.endpoint, effect.connect_timeout, now)

    def act(self, effect: events.Effect, now: float) -> None:
        """Carry out an effect that only races have."""
        if isinstance(effect, events.SendToo):
            self.start(effect, now)
        elif isinstance(effect, events.Drop):
            for attempt in effect.attempts:
                self._contenders.pop(attempt).close()

    def expired(self, now: float) -> None:
        """Nothing has come for as long as the exchange wanted to wait."""
        if self._contenders:
            self.relay.feed(events.TimedOut(Stage.HEDGE), now)

    def tell(
        self,
        contender: "Contender",
        event: events.Event | events.Head | events.Reset | events.TimedOut,
        now: float,
    ) -> None:
        """Something happened to one of the attempts."""
        self.relay.feed(events.OfAttempt(contender.attempt, event), now)

    def answered(
        self,
        contender: "Contender",
        upstream: Upstream,
        head: ResponseHead,
        data: bytes,
        now: float,
    ) -> None:
        """A response's head, with the first that came of its body, unless it has none."""
        relay = self.relay
        if len(self._contenders) > 1:
            event = events.Head(head.status, retry_after=head.retry_after, lines=head.shape.start)
            self.tell(contender, event, now)
            if self._contenders.get(contender.attempt) is not contender:
                return  # not good enough while there are others
        del self._contenders[contender.attempt]
        contender.stop()
        self._clock.stop()
        relay.race = None
        upstream.relay, relay.upstream = relay, upstream
        relay.response_began(upstream, head, data, now)

    def close(self) -> None:
        """Give up all attempts."""
        self._clock.stop()
        contenders, self._contenders = self._contenders, {}
        for contender in contenders.values():
            contender.close()

    def __repr__(self) -> str:
        return f"<Race {list(self._contenders.values())}>"


class Contender(Client):
    """One attempt, up to the first byte of its answer."""

    __slots__ = (
        "_clock",
        "_held",
        "_mended",
        "_race",
        "_stage",
        "_timeout",
        "_upstream",
        "attempt",
    )

    def __init__(self, race: Race, attempt: int, first_byte_timeout: float) -> None:
        super().__init__(race.relay.head)
        self.uploaded = True
        self._race = race
        self._timeout = first_byte_timeout
        self._upstream: Upstream | None = None
        self._held: ResponseHead | None = None
        self._stage = Stage.CONNECT
        self._mended = False
        self._clock = Clock(self)
        self.attempt = attempt

    def begin(self, endpoint: Endpoint, connect_timeout: float, now: float) -> None:
        server = self._race.server
        pool = server.pool(endpoint.id)
        upstream = pool.take()
        if upstream is not None:
            self._sent(upstream, now)
            return
        self._upstream = upstream = Upstream(server, endpoint, pool)
        if connect_timeout:
            server.wheel.set(self._clock, now + connect_timeout)
        upstream.dial(self)

    def _sent(self, upstream: Upstream, now: float) -> None:
        race = self._race
        self._upstream = upstream
        race.relay.send(upstream)
        upstream.relay = self
        if self._mended:  # the exchange has been told of the first connection
            return
        self._stage = Stage.FIRST_BYTE
        race.server.wheel.set(self._clock, now + self._timeout if self._timeout else NEVER)
        race.tell(self, events.CONNECTED, now)

    def stop(self) -> None:
        """It has won, or it is over."""
        self._clock.stop()

    def close(self) -> None:
        self.stop()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def expired(self, now: float) -> None:
        """The connection, or the first byte, is overdue."""
        if self._upstream is not None:
            self._race.tell(self, events.TimedOut(self._stage), now)

    # --- what the connection says ---------------------------------------------------------------

    def connected(self, upstream: Upstream) -> None:
        self._sent(upstream, self._race.server.clock())

    def connect_failed(self, upstream: Upstream) -> None:
        self._upstream = None
        event = events.RESET if self._mended else events.CONNECT_FAILED
        self._race.tell(self, event, self._race.server.clock())

    def response_began(
        self, upstream: Upstream, head: ResponseHead, data: bytes, now: float
    ) -> None:
        if data or upstream.complete or head.status >= 400:
            self._race.answered(self, upstream, head, data, now)
        else:
            self._held = head

    def body(self, data: bytes, now: float) -> None:
        assert self._held is not None and self._upstream is not None
        self._race.answered(self, self._upstream, self._held, data, now)

    def response_ended(self, now: float) -> None:
        """It had no body, and the end of the connection said so."""
        relay, upstream = self._race.relay, self._upstream
        assert self._held is not None and upstream is not None
        self._race.answered(self, upstream, self._held, b"", now)
        if relay.upstream is upstream:
            relay.response_ended(now)

    def upstream_lost(self, upstream: Upstream, protocol: bool) -> None:
        if upstream.reused and not upstream.heard and not protocol:
            self._mended = True
            self._upstream = again = Upstream(self._race.server, upstream.endpoint, upstream.pool)
            again.dial(self)
            return
        self._upstream = None
        self._race.tell(self, events.Reset(protocol), self._race.server.clock())

    def upload_unblocked(self) -> None:
        """The request has been handed over as a whole; nobody waits for room."""

    def __repr__(self) -> str:
        return f"<Contender {self.attempt} {self._upstream!r}>"
