"""Retries over real connections: what engines see, and when."""

import asyncio

from router.core.retry.back_off import BackOff
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import StringMatch
from tests.proxy.rig import EngineConnection, Rig, answering, chat, whole

BUSY = whole(b'{"busy":true}', "503 Busy", "retry-after: 1\r\n")


def in_turn(*responses: bytes):  # type: ignore[no-untyped-def]
    """An engine that answers its requests with these, one after another, and the last for ever."""
    left = list(responses)

    async def script(connection: EngineConnection) -> None:
        while True:
            await connection.request()
            await connection.send(left.pop(0) if len(left) > 1 else left[0])

    return script


async def test_a_retry_waits_for_as_long_as_the_endpoint_asked(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX)
    await rig.start(in_turn(BUSY, whole()))
    started = asyncio.get_running_loop().time()
    status, _, body = await rig.post()
    assert (status, body) == (200, b'{"ok":true}')
    assert asyncio.get_running_loop().time() - started >= 1
    assert rig.director.places("c").budget.named_waits == 1


async def test_another_endpoint_is_asked_at_once(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX, back_off=BackOff(base=60, maximum=60))
    await rig.start(answering(BUSY), answering())
    statuses = [(await rig.post())[0] for _ in range(2)]
    assert statuses == [200, 200]
    assert rig.director.places("c").budget.waits == 0


async def test_a_client_that_leaves_ends_the_wait(rig: Rig) -> None:
    rig.retry = RetryPolicy(attempts=1, on=RetryOn.FIVE_XX, back_off=BackOff(base=600, maximum=600))
    await rig.start(answering(whole(b"{}", "500 X")))
    client = await rig.client()
    await client.send(chat())
    await rig.until(lambda: rig.states() == ["backing_off"])
    places = rig.director.places("c")
    assert (places.in_flight, places.budget.in_flight) == (0, 1)
    client.close()
    await rig.settled()
    assert places.budget.in_flight == 0
    [record] = rig.recorder.records
    assert (record.flag, record.attempts) == ("DC", 1)


async def test_a_good_status_can_be_retried_for_its_headers(rig: Rig) -> None:
    again = (("x-again", StringMatch("exact", "yes")),)
    rig.retry = RetryPolicy(on=RetryOn.RETRIABLE_HEADERS, headers=again)
    await rig.start(in_turn(whole(headers="X-Again: yes\r\n"), whole(headers="x-again: no\r\n")))
    status, headers, _ = await rig.post()
    assert (status, headers["x-again"]) == (200, "no")
    assert rig.recorder.records[0].attempts == 2
