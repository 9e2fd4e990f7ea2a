"""What the proxy tells the core of an endpoint's latency."""

import asyncio

from router.core.host import Latency
from tests.proxy.rig import EVENT, SSE_HEAD, EngineConnection, Rig, chat

LATE = 0.06


async def test_the_first_byte_of_the_body_is_measured_once(rig: Rig) -> None:
    async def script(connection: EngineConnection) -> None:
        await connection.request()
        await connection.send(SSE_HEAD)
        await asyncio.sleep(LATE)
        await connection.send(EVENT)
        await finish.wait()
        await connection.send(EVENT + b"0\r\n\r\n")

    finish = asyncio.Event()
    await rig.start(script)
    [host] = rig.fleet.hosts.values()
    host.latency = latency = Latency(tau=10, initial=0.001, penalty=10)
    client = await rig.client()
    await client.send(chat(b'{"model":"m","stream":true}'))
    await client.read_until(b"x\n\n\r\n")
    measured = latency.estimate(0.0)
    assert LATE * 0.9 < measured < 5
    finish.set()
    await client.read_until(b"0\r\n\r\n")
    await rig.settled()
    assert latency.estimate(0.0) == measured
