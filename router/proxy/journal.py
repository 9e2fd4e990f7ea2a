"""Exchanges that have ended, recorded several at a time. Balancers that learn are told of usage.

Between two requests the code and the data of a record leave the processor's caches. Done one after
another they are fetched once. So exchanges wait for the next tick of the wheel, or until there are
enough of them.
"""

from typing import TYPE_CHECKING, Final

from router.core.exchange import Exchange
from router.proxy.accounting import record_of
from router.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from router.proxy.relay import Relay
    from router.proxy.server import ProxyServer

MOST: Final = 64
"""Exchanges that wait at most."""


class Journal:
    """What is still to be told to ``recorder``."""

    __slots__ = ("_ended", "_recorder", "_server")

    def __init__(self, server: "ProxyServer", recorder: Recorder) -> None:
        self._server = server
        self._recorder = recorder
        self._ended: list[tuple[Relay, Exchange, float, list[bytes]]] = []

    def add(self, relay: "Relay", exchange: Exchange, now: float) -> None:
        """An exchange is over. The end of its response is taken along if it tells of usage."""
        reply, ended = relay.reply, self._ended
        tells = reply is not None and reply.tells_usage
        ended.append((relay, exchange, now, list(relay.downstream.tail) if tells else []))
        if len(ended) >= MOST:
            self.settle()

    def settle(self) -> None:
        """Record all of them now."""
        if self._ended:
            ended, self._ended = self._ended, []
            server, recorder = self._server, self._recorder
            for relay, exchange, now, tail in ended:
                record = record_of(relay, server, exchange, now, tail)
                if exchange.work is not None and record.prompt_tokens is not None:
                    exchange.usage(record.prompt_tokens, record.cached_tokens)
                recorder.exchange_ended(record)

    def __repr__(self) -> str:
        return f"<Journal {len(self._ended)} to be recorded>"
