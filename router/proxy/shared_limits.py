"""Limits that all routers share, kept in Redis; the core's ``Shared`` store.

Nothing here is awaited on a request's path. Questions and charges are queued; one task sends all
that is queued in one write, each of them one step of the script, and feeds the exchanges their
answers. While a write is under way the next ones gather. A question is given up after ``timeout``;
what is granted to one that nobody waits for any more is given back.

When Redis fails, every open question is answered with "no answer" at once, and further ones are
not put until it can be reached again, which is tried every ``retry_interval``. Charges wait for
that, as many as there is room for; those that were under way when it failed may or may not have
arrived, and are not sent again: a token is rather lost than given twice.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from router.config.limits import RedisSpec
from router.control.redis_client import redis_client
from router.core.admission.claims import Ticket
from router.core.admission.token_bucket import BucketSpec, Draw, Verdict
from router.core.events import Verdicts
from router.core.states import State
from router.proxy.redis_script import SCRIPT
from router.telemetry.totals import Totals

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from router.proxy.relay import Relay
    from router.proxy.server import ProxyServer

BATCH = 256
"""Questions and charges sent in one write."""
ROOM = 16384
"""Charges that wait for Redis to come back; beyond it they are lost, and counted."""
CONNECTING = 1.0
"""Seconds that a connection may take; requests wait for it no longer than for an answer."""
CLOSING = 1.0
"""Seconds to deliver the last charges of a worker that ends."""


class _Step(msgspec.Struct, gc=False):
    """One run of the script. ``ticket`` is None for a charge."""

    draws: Sequence[Draw]
    ticket: Ticket | None = None


class SharedLimits:
    """Implements ``core.admission.shared_store.Shared``.

    Args:
        spec: where Redis is, and how long to wait for it; may be replaced at any time.
        relays: exchanges under way by serial.
        clock: monotonic seconds.

    Attributes:
        up: whether the last that is known of Redis is good.
        asked, unanswered: questions put, and those without an answer in time.
        lost: charges that may not have arrived.
    """

    def __init__(
        self,
        spec: RedisSpec,
        relays: Mapping[int, "Relay"],
        clock: Callable[[], float],
    ) -> None:
        self.spec = spec
        self.up = True
        self.asked = 0
        self.unanswered = 0
        self.lost = 0
        self._relays = relays
        self._clock = clock
        self._queue: list[_Step] = []
        self._wanted = asyncio.Event()
        self._client: Redis | None = None
        self._connected_to: RedisSpec | None = None
        self._digest = ""
        self._closing = False
        self._task = asyncio.get_running_loop().create_task(self._serve())

    # --- what the core asks -----------------------------------------------------------------

    def ask(self, serial: int, draws: tuple[Draw, ...]) -> Ticket | None:
        self.asked += 1
        if not self.up or self._closing:
            self.unanswered += 1
            return None
        ticket = Ticket(serial, draws, self)
        self._put(_Step(draws, ticket))
        return ticket

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        if len(self._queue) >= ROOM:
            self.lost += 1
        else:
            self._put(_Step(draws))
        return 0.0

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        self.charge((Draw(key, spec, amount),), now)

    def _put(self, step: _Step) -> None:
        self._queue.append(step)
        self._wanted.set()

    # --- the one task -----------------------------------------------------------------------

    async def _serve(self) -> None:
        while not (self._closing and not self._queue):
            if self.up:
                await self._wanted.wait()
            batch: list[_Step] = []
            try:
                async with asyncio.timeout(max(CONNECTING, float(self.spec.timeout))):
                    client = await self._connected()
                batch = self._next_batch()
                async with asyncio.timeout(float(self.spec.timeout)):
                    answers = await self._send(client, batch)
            except Exception:  # whatever it was, no request may wait for it
                await self._failed(batch)
                if self._closing:
                    return
                await asyncio.sleep(float(self.spec.retry_interval))
                continue
            self.up = True
            for step, answer in zip(batch, answers, strict=True):
                self._heard(step, answer)

    def _next_batch(self) -> list[_Step]:
        batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        if not self._queue and not self._closing:
            self._wanted.clear()
        return batch

    async def _connected(self) -> "Redis":
        if self._connected_to is not self.spec:
            await self._hang_up()
        if self._client is None:
            client = self._client = redis_client(self.spec)
            self._connected_to = self.spec
            self._digest = str(await client.script_load(SCRIPT))
        return self._client

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.aclose(), CLOSING)
            except Exception:  # it was gone already
                return

    async def _send(self, client: "Redis", batch: list[_Step]) -> list[Any]:
        """One write for all steps; those whose script Redis has forgotten once more."""
        from redis.exceptions import NoScriptError

        if not batch:
            await client.ping()
            return []
        answers = await self._run(client, batch)
        again = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if again:
            self._digest = str(await client.script_load(SCRIPT))
            found = await self._run(client, [batch[n] for n in again])
            for n, answer in zip(again, found, strict=True):
                answers[n] = answer
        return answers

    async def _run(self, client: "Redis", batch: list[_Step]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for step in batch:
            keys = [f"{self.spec.prefix}{{limits}}:{draw.key:016x}" for draw in step.draws]
            pipeline.evalsha(self._digest, len(keys), *keys, *_arguments(step))
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    # --- answers ----------------------------------------------------------------------------

    def _heard(self, step: _Step, answer: Any) -> None:
        if isinstance(answer, Exception):
            self._unheard(step)
            return
        ticket = step.ticket
        if ticket is None:
            return
        verdicts = _verdicts(step.draws, answer)
        if not ticket.withdrawn:
            self._answer(ticket, verdicts)
            return
        self.unanswered += 1
        if all(v.allowed or not d.binding for v, d in zip(verdicts, step.draws, strict=True)):
            taken = zip(verdicts, step.draws, strict=True)
            back = [Draw(d.key, d.spec, -d.amount) for v, d in taken if v.allowed]
            if back:
                self.charge(back, 0.0)

    def _unheard(self, step: _Step) -> None:
        if step.ticket is None:
            self.lost += 1
        elif not step.ticket.withdrawn:
            self.unanswered += 1
            self._answer(step.ticket, None)

    def _answer(self, ticket: Ticket, verdicts: tuple[Verdict, ...] | None) -> None:
        ticket.withdrawn = True
        relay = self._relays.get(ticket.serial)
        if relay is None or relay.exchange is None or relay.exchange.state is not State.LIMITING:
            return
        try:
            relay.feed(Verdicts(verdicts), self._clock())
        except Exception as error:  # one request's fault must not leave the others without answer
            context = {"message": f"limits of {relay!r}", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _failed(self, batch: list[_Step]) -> None:
        """Redis is gone: nobody waits for it. Charges that were not sent yet stay in line."""
        self.up = False
        waiting, self._queue = self._queue, []
        for step in waiting:
            if step.ticket is None:
                self._queue.append(step)
        for step in (*batch, *(step for step in waiting if step.ticket is not None)):
            self._unheard(step)
        await self._hang_up()

    async def close(self) -> None:
        """Deliver the charges that are left, if that can be done soon, and hang up."""
        self._closing = True
        self._wanted.set()
        if not self.up:
            self._task.cancel()
        await asyncio.wait([self._task], timeout=CLOSING)
        self._task.cancel()
        self.lost += len(self._queue)
        await self._hang_up()

    def add_to(self, totals: Totals) -> None:
        """Put the counts into ``totals``."""
        totals.counters["shared_limit_questions_total"] = {
            ("answered",): float(self.asked - self.unanswered),
            ("unanswered",): float(self.unanswered),
        }
        totals.counters["shared_limit_charges_lost_total"] = {(): float(self.lost)}
        totals.gauges["shared_limits_reached"] = {(): float(self.up)}

    def __repr__(self) -> str:
        return f"<SharedLimits {self.spec.address} up={self.up} queued={len(self._queue)}>"


def follow(
    spec: RedisSpec | None, present: SharedLimits | None, server: "ProxyServer"
) -> SharedLimits | None:
    """Bring what the configuration says of Redis in force; one that is there is kept, since
    requests under way will charge it."""
    shared = present
    if spec is not None and shared is None:
        shared = SharedLimits(spec, server.relays, server.clock)
    elif spec is not None and shared is not None and shared.spec != spec:
        shared.spec = spec
    server.director.limiter.shared = None if spec is None else shared
    return shared


def _arguments(step: _Step) -> list[str]:
    words = ["charge" if step.ticket is None else "take"]
    for draw in step.draws:
        spec = draw.spec
        words += [f"{n:.17g}" for n in (spec.capacity, spec.fill_rate, spec.debt, draw.amount)]
        words.append("1" if draw.binding else "0")
    return words


def _verdicts(draws: Sequence[Draw], answer: list[Any]) -> tuple[Verdict, ...]:
    found = []
    for n, draw in enumerate(draws):
        allowed, left = bool(answer[2 * n]), float(answer[2 * n + 1])
        wait = 0.0 if allowed else (draw.amount - left) / draw.spec.fill_rate
        found.append(Verdict(allowed, left, wait))
    return tuple(found)
