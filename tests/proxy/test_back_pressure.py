"""Engines that say they are full, over real sockets."""

import asyncio
import email.utils
import time

import pytest

from router.proxy.retry_after import seconds_after
from tests.proxy.rig import EngineConnection, Rig, whole


def engine(name: str, *first: bytes):
    """Answers each of the first requests with these bytes, then 200 with its name."""
    answers = list(first)

    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(answers.pop(0) if answers else whole(name.encode()))

    return script


def full(retry_after: str, status: str = "503 Service Unavailable") -> bytes:
    return whole(b"{}", status, f"Retry-After: {retry_after}\r\n")


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_who_pushes_back_is_spared_and_the_client_is_told(rig: Rig, status: str) -> None:
    await rig.start(engine("a", full("20", status)), engine("b", full("20", status)))
    code, headers, _ = await rig.post()
    assert (code, headers["retry-after"]) == (int(status[:3]), "20")
    [spared] = [host for host in rig.fleet.hosts.values() if host.pushed_until]
    left = spared.pushed_until - asyncio.get_running_loop().time()
    assert 18 < left < 20.5
    # The other one does the same; from then on the one that comes back first serves.
    assert (await rig.post())[0] == code
    first = spared.endpoint.port == rig.ports[0]
    assert [(await rig.post())[2] for _ in range(3)] == [b"a" if first else b"b"] * 3
    await rig.settled()


async def test_when_all_are_full_requests_still_get_through(rig: Rig) -> None:
    await rig.start(engine("a", full("3600")), engine("b", full("3600")))
    statuses = [(await rig.post())[0] for _ in range(6)]
    assert sorted(statuses) == [200] * 4 + [503] * 2
    assert all(host.pushed_until for host in rig.fleet.hosts.values())
    await rig.settled()


def test_seconds_dates_and_nonsense() -> None:
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 28 < seconds_after(soon.lower().encode()) <= 30
    assert [seconds_after(value) for value in (b"7", b"0.5", b"soon", b"-3", b"", b"\xff")] == [
        7.0, 0.5, 0.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip
    assert seconds_after(email.utils.formatdate(0, usegmt=True).encode()) == 0.0
