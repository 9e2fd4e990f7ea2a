"""Hedges over real connections: who is asked, who wins, and that the loser is left at once."""

import pytest

from router.core.host import Outcome
from router.core.retry.hedge import Hedge
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Timeouts
from router.proxy.pool import Pool
from tests.proxy.rig import (
    EVENT,
    SSE_HEAD,
    EngineConnection,
    Rig,
    Watched,
    answering,
    chat,
    whole,
)

SOON = Hedge(after=0.03, min_concurrency=9)
LAST = b"0\r\n\r\n"


async def streaming(connection: EngineConnection) -> None:
    await connection.request()
    await connection.send(SSE_HEAD + EVENT)
    await connection.send(EVENT + LAST)


def counts(rig: Rig) -> tuple[int, int, int]:
    hedges = rig.director.places("c").hedges
    assert hedges.in_flight == 0
    return hedges.sent, hedges.won, hedges.over_budget


@pytest.mark.parametrize("said", [b"", SSE_HEAD], ids=["silent", "head only"])
async def test_a_hedge_wins_over_an_engine_that_does_not_begin(rig: Rig, said: bytes) -> None:
    rig.hedge = SOON
    slow = Watched(said)
    await rig.start(slow, streaming)
    status, _, body = await rig.post()
    assert (status, body) == (200, b"data: x\n\n" * 2)
    await slow.left.wait()  # it was not left to work for nobody
    await rig.settled()
    [record] = rig.recorder.records
    assert (record.attempts, record.hedges, record.reason) == (2, 1, "hedge")
    assert record.endpoint.endswith(str(rig.ports[1]))
    loser = rig.fleet.hosts[next(iter(rig.fleet.hosts))]
    assert loser.outcomes[Outcome.ABANDONED] == 1
    assert counts(rig) == (1, 1, 0)


async def test_the_first_engine_may_still_win(rig: Rig) -> None:
    rig.hedge = SOON
    hedge = Watched()

    async def slow(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        await hedge.arrived.wait()
        await connection.send(EVENT + LAST)

    await rig.start(slow, hedge)
    assert (await rig.post())[2] == b"data: x\n\n"
    await hedge.left.wait()
    await rig.settled()
    assert counts(rig) == (1, 0, 0)
    assert rig.recorder.records[0].endpoint.endswith(str(rig.ports[0]))


async def test_nothing_is_sent_twice_where_the_answer_begins_in_time(rig: Rig) -> None:
    rig.hedge = Hedge(after=60)
    await rig.start(answering(), answering())
    client = await rig.client()
    for _ in range(4):
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert counts(rig) == (0, 0, 0)
    assert sum(engine.connections for engine in rig.engines) == 2  # kept and used again


async def test_an_error_does_not_win(rig: Rig) -> None:
    rig.hedge = SOON
    rig.retry = RetryPolicy(attempts=0)
    hedge = answering(whole(b"{}", "500 X"))
    failed: list[bool] = []

    async def slow(connection: EngineConnection) -> None:
        await connection.request()
        await rig.until(lambda: any(h.outcomes[Outcome.STATUS_ERROR] for h in hosts()))
        failed.append(True)
        await connection.send(whole())

    def hosts():  # type: ignore[no-untyped-def]
        return rig.fleet.hosts.values()

    await rig.start(slow, hedge)
    assert (await rig.post())[0] == 200
    assert failed == [True]
    await rig.settled()
    assert counts(rig) == (1, 0, 0)


async def test_a_hedge_takes_over_when_the_first_engine_resets(rig: Rig) -> None:
    rig.hedge = SOON
    rig.retry = RetryPolicy(attempts=0)
    first_has_left = Watched()

    async def resetting(connection: EngineConnection) -> None:
        await connection.request()
        await rig.until(lambda: rig.director.places("c").hedges.sent == 1)
        connection.reset()
        first_has_left.left.set()

    async def steady(connection: EngineConnection) -> None:
        await connection.request()
        await first_has_left.left.wait()
        await rig.until(lambda: any(h.outcomes[Outcome.RESET] for h in rig.fleet.hosts.values()))
        await connection.send(SSE_HEAD)
        await connection.send(EVENT + LAST)

    await rig.start(resetting, steady)
    assert (await rig.post())[0] == 200
    await rig.settled()
    assert rig.recorder.records[0].attempts == 2


async def test_a_client_that_leaves_ends_both(rig: Rig) -> None:
    rig.hedge = SOON
    engines = Watched(), Watched(SSE_HEAD)
    await rig.start(*engines)
    client = await rig.client()
    await client.send(chat())
    for engine in engines:
        await engine.arrived.wait()
    client.close()
    for engine in engines:
        await engine.left.wait()
    await rig.settled()
    assert [record.flag for record in rig.recorder.records] == ["DC"]
    assert counts(rig) == (1, 0, 0)


async def test_the_total_ends_both(rig: Rig) -> None:
    rig.hedge = SOON
    rig.timeouts = Timeouts(total=0.2)
    engines = Watched(), Watched()
    await rig.start(*engines)
    assert (await rig.post())[0] == 504
    for engine in engines:
        await engine.left.wait()


async def test_each_attempt_has_its_own_time_for_the_first_byte(rig: Rig) -> None:
    rig.hedge = SOON
    rig.timeouts = Timeouts(first_byte=0.1)
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.RESET)
    hanging = [Watched(), Watched(SSE_HEAD)]
    left = list(hanging)

    async def engine(connection: EngineConnection) -> None:
        await (left.pop()(connection) if left else answering()(connection))

    await rig.start(engine, engine)
    assert (await rig.post())[0] == 200
    for watched in hanging:
        await watched.left.wait()
    await rig.settled()
    assert rig.recorder.records[0].attempts == 3


async def test_a_streamed_request_is_not_hedged(rig: Rig) -> None:
    rig.hedge = SOON
    rig.limits = type(rig.limits)(buffer_body=64)
    first = Watched()
    await rig.start(first, Watched())
    client = await rig.client()
    body = b'{"model":"m","x":"' + b"y" * 400 + b'"}'
    head, _, rest = chat(body).partition(b"\r\n\r\n")
    await client.send(head + b"\r\n\r\n" + rest[:300])
    await first.arrived.wait()
    await client.send(rest[300:])
    await rig.until(lambda: rig.states() == ["waiting_first_byte"])
    assert rig.engines[1].connections == 0
    client.close()
    await rig.settled()
    assert counts(rig) == (0, 0, 0)


async def test_a_stale_connection_is_mended_in_a_race(rig: Rig) -> None:
    """The engine closes a kept connection just as a request is sent on it."""
    rig.hedge = Hedge(after=60)

    async def once(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(whole())
        await connection.head()
        connection.close()

    await rig.start(once)
    client = await rig.client()
    for _ in range(2):
        await client.send(chat())
        assert (await client.response())[0] == 200
    assert isinstance(rig.server.pool(next(iter(rig.fleet.hosts))), Pool)
    assert [record.attempts for record in rig.recorder.records] == [1, 1]
    assert rig.engines[0].connections == 2


async def test_bodies_that_end_with_the_connection_or_are_empty(rig: Rig) -> None:
    rig.hedge = Hedge(after=60)

    async def until_close(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.close()

    await rig.start(until_close, answering(whole(b"")))
    assert [(await rig.post())[2] for _ in range(2)] == [b"", b""]


async def test_envoys_hedge_on_per_try_timeout(rig: Rig) -> None:
    """Observed with Envoy: the first engine hangs, the second is slower than the time-out."""
    rig.hedge = Hedge(on_per_try_timeout=True)
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.CONNECT_FAILURE, per_try_timeout=0.05)
    rig.timeouts = Timeouts(total=5)
    hanging = Watched()

    async def slow(connection: EngineConnection) -> None:
        await connection.request()
        monitor = rig.server.relays
        assert monitor
        await rig.until(lambda: not timers(rig))
        await connection.send(whole())

    def timers(rig: Rig) -> list[object]:
        relays = list(rig.server.relays.values())
        contenders = relays[0].race._contenders.values() if relays and relays[0].race else ()
        return [c for c in contenders if c._clock.deadline != float("inf")]

    await rig.start(hanging, slow)
    assert (await rig.post())[0] == 200
    await hanging.left.wait()
    await rig.settled()
    [record] = rig.recorder.records
    assert (record.attempts, record.hedges) == (2, 0)
