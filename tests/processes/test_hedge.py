"""Retries and hedges in a running router: from the file to the metrics and the admin API."""

from engine.emulator.profiles import Timing
from tests.processes.router_process import configuration, emulator, serving, until

ROUTE = "{name: all, to: demo, timeouts: {connect: 2s}}"


def configured(*engines: str, route: str) -> str:
    return configuration(*engines).replace(ROUTE, ROUTE[:-1] + f", {route}}}")


async def test_a_hedge_takes_over_from_an_engine_that_is_slow_to_begin(tmp_path):
    slow = Timing(prefill_tokens_per_second=0.2)
    async with emulator("slow", slow) as a, emulator("fast") as b:
        text = configured(a.address, b.address, route="hedge: {after: 100ms, min_concurrency: 9}")
        async with serving(tmp_path, text) as router:
            assert {await router.served_by() for _ in range(4)} == {"fast"}
            sent = 'warmpath_hedges_total{cluster="demo",result="sent"}'
            won = 'warmpath_hedges_total{cluster="demo",result="won"}'
            outcome = "warmpath_endpoint_requests_total"
            left = f'{outcome}{{cluster="demo",endpoint="{a.address}",outcome="abandoned"}}'

            async def counted() -> bool:
                return await router.metric(won) >= 1 and await router.metric(left) >= 1

            await until(counted)
            assert await router.metric(sent) == await router.metric(won)
            assert await router.metric('warmpath_retries_total{cluster="demo"}') == 0
            assert await router.in_flight() == 0
            status, told = await router.ask("POST", "/explain", {"model": "emulated"})
            assert status == 200
            assert told["hedge"]["endpoint"] in {f"demo/{a.address}", f"demo/{b.address}"}


async def test_a_retry_heeds_retry_after_and_is_counted(tmp_path):
    async with emulator("a") as a:
        a.add_fault("status=503;retry_after=1;count=1")
        retry = "retry: {attempts: 1, on: '5xx,reset'}"
        async with serving(tmp_path, configured(a.address, route=retry)) as router:
            assert await router.served_by() == "a"
            waits = 'warmpath_retry_waits_total{cluster="demo",kind="named"}'

            async def counted() -> bool:
                retries = await router.metric('warmpath_retries_total{cluster="demo"}')
                return (await router.metric(waits), retries) == (1, 1)

            await until(counted)
