"""Limits of all routers: with a real Redis, with one that hangs, and with none."""

import asyncio
import dataclasses
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from router.config.limits import RedisSpec
from router.config.units import Address, Interval
from router.core.admission.claims import Ticket
from router.core.admission.rate_limit import RateLimit, Unit
from router.core.admission.shared_store import OnFailure
from router.core.admission.token_bucket import BucketSpec, Draw, LocalBuckets
from router.core.routing import RouteTable
from router.proxy.shared_limits import SharedLimits, _Step, _verdicts, follow
from tests.proxy.redis_server import RedisServer
from tests.proxy.rig import Rig, answering, whole

USAGE = b'{"usage":{"prompt_tokens":30,"completion_tokens":12}}'


@pytest.fixture
async def redis(tool: Callable[..., str], tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tool("redis-server"), tmp_path)
    await server.start()
    yield server
    await server.stop()


def limit(capacity: float, unit: Unit = "requests", name: str = "all") -> RateLimit:
    return RateLimit(
        name=name, bucket=BucketSpec(capacity, 1e-6, capacity), unit=unit, scope="global"
    )


async def limited(
    rig: Rig,
    port: int,
    *limits: RateLimit,
    timeout: float = 5.0,
    on_failure: OnFailure = "local_share",
    machines: int = 1,
) -> SharedLimits:
    """Start the rig's proxy with these limits."""
    await rig.start(answering(whole(USAGE)))
    spec = RedisSpec(
        address=Address(f"127.0.0.1:{port}"),
        timeout=Interval(timeout),
        retry_interval=Interval(0.02),
        on_failure=on_failure,
        machines=machines,
    )
    snapshot = rig.snapshot()
    [route] = snapshot.routes.routes
    route = dataclasses.replace(route, limits=limits)
    rig.director.update(
        dataclasses.replace(snapshot, routes=RouteTable([route]), shared_store=spec.build())
    )
    shared = SharedLimits(spec, rig.server.relays, rig.server.clock)
    rig.director.limiter.shared = shared
    return shared


async def statuses(rig: Rig, count: int) -> Counter[int]:
    answers = await asyncio.gather(*(rig.post() for _ in range(count)))
    return Counter(status for status, _, _ in answers)


@pytest.mark.tool
async def test_routers_share_one_bucket_exactly(redis: RedisServer, rig: Rig) -> None:
    other = Rig()
    first = await limited(rig, redis.port, limit(10))
    second = await limited(other, redis.port, limit(10))
    found = await asyncio.gather(statuses(rig, 15), statuses(other, 15))
    assert found[0] + found[1] == {200: 10, 429: 20}
    await first.close()
    await second.close()
    await other.stop()


@pytest.mark.tool
async def test_tokens_are_settled_in_redis_and_keys_are_hashed(
    redis: RedisServer, rig: Rig
) -> None:
    shared = await limited(rig, redis.port, limit(1000, "tokens"), limit(5, name="few"))
    status, headers, _ = await rig.post(b'{"model":"m","max_tokens":400}')
    assert (status, headers["x-ratelimit-limit-tokens"]) == (200, "1000")
    assert headers["x-ratelimit-remaining-requests"] == "4"
    await shared.close()  # what is queued is delivered
    assert await redis.levels() == [4, 1000 - 42]
    keys = await redis.client.keys()
    assert all(key.startswith(b"warmpath:{limits}:") and len(key) == 34 for key in keys)
    assert min([await redis.client.pttl(key) for key in keys]) > 0


@pytest.mark.tool
async def test_a_refusal_takes_nothing_anywhere(redis: RedisServer, rig: Rig) -> None:
    here = dataclasses.replace(limit(100, name="here"), scope="machine")
    shared = await limited(rig, redis.port, here, limit(3), limit(1, name="one"))
    assert await statuses(rig, 4) == {200: 1, 429: 3}
    level = rig.director.limiter.store.level(  # type: ignore[attr-defined]
        here.own_key, here.bucket, rig.server.clock()
    )
    assert round(level) == 99
    await shared.close()
    assert await redis.levels() == [0, 2]


@pytest.mark.tool
async def test_the_script_counts_as_the_core_does(redis: RedisServer) -> None:
    """A thousand random steps over three buckets that hardly fill."""
    rng = random.Random(3)
    spec = RedisSpec(address=Address(redis.address), timeout=Interval(5))
    shared = SharedLimits(spec, {}, lambda: 0.0)
    async with asyncio.timeout(20):
        client = await shared._connected()
    local = LocalBuckets()
    specs = [BucketSpec(10, 1e-9, 5), BucketSpec(100, 1e-9), BucketSpec(7, 1e-9, 70)]
    for _ in range(20):
        batch = []
        for _ in range(50):
            chosen = rng.sample(range(3), rng.randint(1, 3))
            take = rng.random() < 0.6
            draws = tuple(
                Draw(n, specs[n], rng.randint(1 if take else -9, 9), rng.random() < 0.8)
                for n in chosen
            )
            batch.append(_Step(draws, Ticket(0, draws, shared) if take else None))
        for step, answer in zip(batch, await shared._send(client, batch), strict=True):
            if step.ticket is None:
                local.charge(step.draws, 0.0)
                continue
            ours = local.take(step.draws, 0.0)
            theirs = _verdicts(step.draws, answer)
            assert [v.allowed for v in theirs] == [v.allowed for v in ours]
            for their, our in zip(theirs, ours, strict=True):
                assert their.remaining == pytest.approx(our.remaining, abs=1e-3)
        await redis.client.script_flush()  # as after a restart: it is loaded again
    await shared.close()


@pytest.mark.tool
async def test_a_client_that_leaves_while_redis_thinks_is_given_back(
    redis: RedisServer, rig: Rig
) -> None:
    shared = await limited(rig, redis.port, limit(3))
    assert await statuses(rig, 1) == {200: 1}
    await redis.client.execute_command("CLIENT", "PAUSE", 300, "ALL")
    client = await rig.client()
    await client.send(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 13\r\n\r\n"
    )
    await client.send(b'{"model":"m"}')
    await rig.until(lambda: rig.states() == ["limiting"])
    client.writer.transport.abort()
    await rig.until(lambda: not rig.states())
    await shared.close()
    assert await redis.levels() == [2]


@pytest.mark.tool
async def test_redis_goes_and_comes_back(redis: RedisServer, rig: Rig) -> None:
    """Meanwhile each of two machines allows its half."""
    shared = await limited(rig, redis.port, limit(8), timeout=1.0, machines=2)
    assert await statuses(rig, 6) == {200: 6}
    await redis.stop()
    assert await statuses(rig, 10) == {200: 4, 429: 6}
    assert not shared.up
    await redis.start()  # empty, as after a crash
    await rig.until(lambda: shared.up)
    assert await statuses(rig, 10) == {200: 8, 429: 2}
    await shared.close()


@pytest.mark.parametrize(
    ("on_failure", "expected"),
    [("allow", {200: 4}), ("deny", {503: 4}), ("local_share", {200: 2, 429: 2})],
)
async def test_without_redis_nobody_waits(
    rig: Rig, on_failure: OnFailure, expected: dict[int, int]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = await limited(rig, port, limit(4), on_failure=on_failure, machines=2)
    assert await statuses(rig, 4) == expected
    await rig.settled()
    assert not shared.up
    assert (shared.asked, shared.unanswered) == (4, 4)
    if on_failure == "deny":
        assert {record.flag for record in rig.recorder.records} == {"RLSE"}
    await shared.close()


async def test_a_redis_that_hangs_holds_nobody_up(rig: Rig) -> None:
    held: list[asyncio.StreamWriter] = []
    hung = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = hung.sockets[0].getsockname()[1]
    shared = await limited(rig, port, limit(4), timeout=0.05, on_failure="deny")
    assert await statuses(rig, 4) == {503: 4}
    await rig.until(lambda: not shared.up)
    await shared.close()
    hung.close()
    for writer in held:
        writer.transport.abort()


async def test_charges_for_a_redis_that_is_gone_are_bounded(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.proxy.shared_limits.ROOM", 3)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = await limited(rig, port, limit(4))
    for _ in range(5):
        shared.charge([Draw(1, BucketSpec(1, 1), 1)], 0.0)
    assert shared.lost == 2
    monkeypatch.setattr("router.proxy.shared_limits.CLOSING", 0.05)
    await shared.close()
    assert shared.lost == 5


@pytest.mark.tool
async def test_a_reload_moves_to_another_redis(redis: RedisServer, rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = await limited(rig, port, limit(3), on_failure="deny")
    assert await statuses(rig, 1) == {503: 1}
    there = msgspec.structs.replace(shared.spec, address=Address(redis.address))
    assert follow(there, shared, rig.server) is shared
    await rig.until(lambda: shared.up)
    assert await statuses(rig, 5) == {200: 3, 429: 2}
    assert follow(None, shared, rig.server) is shared
    assert rig.director.limiter.shared is None
    assert await statuses(rig, 1) == {503: 1}, "there is none to ask"
    await shared.close()
