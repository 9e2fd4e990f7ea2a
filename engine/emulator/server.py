"""The emulated engine as a server: a listening socket around `EmulatorService`.

Used by itself inside a test's event loop (`async with Emulator(config) as emulator`) and by the
command line.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from engine.emulator.config import EmulatorConfig
from engine.emulator.connection import Connection
from engine.emulator.faults import Fault, FaultBoard
from engine.emulator.service import EmulatorService
from engine.emulator.tally import Tally
from engine.emulator.timing import EngineModel

BACKLOG: Final = 4096


class Emulator:
    """One emulated engine in the running event loop.

    `port` is known once started; `faults`, `requests` and `model` are live.  Raises OSError from
    `start` when the address cannot be bound, KvEventsError when KV events cannot be published.
    """

    def __init__(self, config: EmulatorConfig | None = None) -> None:
        self.config = config or EmulatorConfig()
        self.port = self.config.port
        self.service: EmulatorService
        self._server: asyncio.AbstractServer | None = None
        self._reopen: asyncio.TimerHandle | None = None
        self._reopening: asyncio.Task[None] | None = None

    async def start(self) -> Self:
        """Bind and serve."""
        self.service = EmulatorService(self.config, self.refuse)
        try:
            await self._listen()
        except OSError:
            self.service.close()
            raise
        return self

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self._reopen is not None:
            self._reopen.cancel()
        if self._reopening is not None:
            self._reopening.cancel()
        if self._server is not None:
            self._server.close()
        self.crash()
        # Let the transports run their connection_lost before the loop may go away.
        for _ in range(3):
            await asyncio.sleep(0)
        self.service.close()

    async def drain(self, seconds: float) -> None:
        """Take no new requests, and wait for the ones in progress for at most `seconds`."""
        self.service.draining = True
        if self._server is not None:
            self._server.close()
        try:
            await asyncio.wait_for(self.requests.idle(), seconds)
        except TimeoutError:
            pass

    def crash(self) -> None:
        """Reset every open connection, as when a process dies."""
        for connection in list(self.service.connections):
            connection.reset()

    def refuse(self, seconds: float) -> None:
        """Close the listening socket, so that connects are refused, and open it again later."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._reopen = asyncio.get_running_loop().call_later(seconds, self._listen_again)

    def add_fault(self, fault: Fault | str) -> Fault:
        """Put a fault in force, given as an object or in its text form."""
        return self.service.add_fault(fault)

    @property
    def faults(self) -> FaultBoard:
        """The faults in force."""
        return self.service.faults

    @property
    def requests(self) -> Tally:
        """What was seen so far."""
        return self.service.tally

    @property
    def model(self) -> EngineModel:
        """The timing model."""
        return self.service.model

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.config.host}:{self.port}"

    @property
    def url(self) -> str:
        """http://host:port."""
        return f"http://{self.address}"

    async def _listen(self) -> None:
        service = self.service
        self._server = server = await asyncio.get_running_loop().create_server(
            lambda: Connection(service), self.config.host, self.port, backlog=BACKLOG
        )
        self.port = server.sockets[0].getsockname()[1]

    def _listen_again(self) -> None:
        self._reopening = asyncio.get_running_loop().create_task(self._listen())

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"Emulator({self.config.name} at {self.address}, {self.requests!r})"
