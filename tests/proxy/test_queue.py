"""Breakers and the queue over real sockets."""

import asyncio

from router.core.admission.breaker import CircuitBreaker, EndpointLimits, QueuePolicy
from router.core.routing import Timeouts
from tests.proxy.rig import EngineConnection, Rig, chat

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Held:
    """An engine that answers when it is let."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.busy = 0
        self.busiest = 0
        self._free = asyncio.Semaphore(0)

    async def __call__(self, connection: EngineConnection) -> None:
        while True:
            head, _ = await connection.request()
            self.order.append(head.lower().partition(b"x-who: ")[2].partition(b"\r\n")[0].decode())
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            await self._free.acquire()
            self.busy -= 1
            await connection.send(OK)

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self._free.release()


async def send(rig: Rig, who: str) -> "asyncio.Task[tuple[int, dict[str, str], bytes]]":
    """A request that has arrived at the proxy."""
    begun = rig.director.begun
    task = asyncio.create_task(rig.post(**{"x-who": who}))
    await rig.until(lambda: rig.director.begun > begun)
    return task


async def test_envoys_per_host_thresholds(rig: Rig) -> None:
    """max_connections 2 for each endpoint, four at once: all 200, two at one time."""
    engine = Held()
    rig.breaker = CircuitBreaker(per_endpoint=EndpointLimits(max_connections=2))
    await rig.start(engine)
    tasks = [await send(rig, str(n)) for n in range(4)]
    await rig.until(lambda: engine.busy == 2)
    assert rig.states().count("queued") == 2
    engine.let(4)
    assert [(await task)[0] for task in tasks] == [200] * 4
    assert engine.busiest == 2
    await rig.settled()


async def test_a_flood_waits_behind_others_of_its_own(rig: Rig) -> None:
    engine = Held()
    rig.breaker = CircuitBreaker(max_connections=1)
    rig.queue = QueuePolicy(fair_by=("header:x-who",))
    await rig.start(engine)
    tasks = [await send(rig, who) for who in ("first", "flood", "flood", "flood", "b", "c")]
    engine.let(6)
    assert [(await task)[0] for task in tasks] == [200] * 6
    assert engine.order == ["first", "flood", "b", "c", "flood", "flood"]
    await rig.settled()


async def test_the_displaced_are_answered_at_once(rig: Rig) -> None:
    engine = Held()
    rig.breaker = CircuitBreaker(max_connections=1, max_pending=2)
    rig.queue = QueuePolicy(fair_by=("header:x-who",), refuse_with=429)
    await rig.start(engine)
    tasks = [await send(rig, who) for who in ("first", "flood", "flood", "b")]
    status, headers, body = await tasks[2]
    assert status == 429 and int(headers["retry-after"]) >= 1
    assert headers["x-envoy-overloaded"] == "true"
    assert b"others come first" in body
    engine.let(3)
    assert [(await tasks[n])[0] for n in (0, 1, 3)] == [200] * 3
    await rig.settled()
    assert rig.director.places("c").rejected == {"displaced": 1}


async def test_waiting_too_long(rig: Rig) -> None:
    engine = Held()
    rig.breaker = CircuitBreaker(max_connections=1)
    rig.timeouts = Timeouts(queue=0.05)
    await rig.start(engine)
    first = await send(rig, "first")
    status, headers, _ = await rig.post()
    assert status == 503 and int(headers["retry-after"]) >= 1
    engine.let()
    assert (await first)[0] == 200
    await rig.settled()


async def test_who_hangs_up_in_line_leaves_no_trace(rig: Rig) -> None:
    engine = Held()
    rig.breaker = CircuitBreaker(max_connections=1)
    await rig.start(engine)
    first = await send(rig, "first")
    client = await rig.client()
    await client.send(chat(b'{"model":"m"}'))
    await rig.until(lambda: rig.director.places("c").queue.waiting == 1)
    client.close()
    await rig.until(lambda: rig.director.places("c").queue.waiting == 0)
    engine.let()
    assert (await first)[0] == 200
    await rig.settled()
