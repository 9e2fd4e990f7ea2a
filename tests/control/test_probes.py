"""Health, load and model lists, read from emulated engines; and the roster they are kept in."""

import asyncio
import dataclasses
import random
import time
from contextlib import asynccontextmanager

import msgspec
import pytest

from engine.emulator.config import EmulatorConfig
from engine.emulator.profiles import Timing
from engine.emulator.server import Emulator
from router.config.build import build
from router.config.load import loads
from router.control import engine_client
from router.control.engine_client import EngineClient, EngineUnreachable
from router.control.models import ModelCatalog
from router.control.probes import Prober, Streak
from router.control.roster import Roster
from router.control.scrape import Scraper
from router.core.model import AdminState, Endpoint, EndpointId


def snapshot_of(*engines: str, routes: str = "{name: all, to: c}", more: str = ""):
    endpoints = ", ".join(f"'{engine}'" for engine in engines)
    return build(
        loads(
            f"""
version: 1
clusters:
  - name: c
    endpoints: [{endpoints}]
    health: {{active: {{interval: 20ms, timeout: 500ms, rise: 2, fall: 3, jitter: 0%}}}}
    scrape: {{interval: 20ms, timeout: 500ms, stale_after: 150ms}}
    {more}
routes: [{routes}]
""",
            "test",
        ),
        1,
    )


@asynccontextmanager
async def watching(part, snapshot):
    """A roster of the snapshot's endpoints, watched by one part, and the updates it made."""
    roster, told = Roster(), []
    roster.reconcile(snapshot.endpoints())
    roster.subscribe(told.extend)
    async with EngineClient() as client:
        watch = part(client, roster)
        watch.reconcile(snapshot)
        try:
            yield roster, told
        finally:
            await watch.close()


def prober(client, roster):
    return Prober(client, roster, random.Random(1))


def scraper(client, roster):
    return Scraper(client, roster, random.Random(1))


async def until(condition, limit=10.0):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.005)


class TestStreak:
    @pytest.mark.parametrize(
        ("results", "verdicts"),
        [
            ("+", "+"),  # the first decides
            ("-", "-"),
            ("+--+--", "++++++"),  # never three failures in a row
            ("+---", "+++-"),
            ("-+-+", "----"),
            ("-++", "--+"),
            ("+---++", "+++--+"),
        ],
    )
    def test_rise_2_fall_3(self, results, verdicts):
        streak = Streak(rise=2, fall=3)
        got = "".join("+" if streak.result(r == "+") else "-" for r in results)
        assert got == verdicts


class TestProbes:
    async def test_verdicts_follow_the_engine_and_are_told_once(self):
        async with Emulator() as a:
            async with watching(prober, snapshot_of(a.address)) as (roster, told):
                (standing,) = roster.standings.values()
                await until(lambda: standing.healthy is True)
                a.add_fault("unhealthy")
                await until(lambda: standing.healthy is False)
                assert "503" in standing.probe_error
                assert not standing.usable
                a.faults.clear()
                await until(lambda: standing.healthy is True)
                assert standing.probe_error is None
            assert [update.healthy for update in told] == [True, False, True]

    async def test_an_engine_that_never_answered_is_unhealthy_at_once(self):
        async with watching(prober, snapshot_of("127.0.0.1:9")) as (roster, told):
            (standing,) = roster.standings.values()
            await until(lambda: standing.healthy is False)
            assert "refused" in standing.probe_error.lower() or "connect" in standing.probe_error
            assert len(told) == 1

    async def test_maintenance_means_no_probes(self):
        async with Emulator() as a, watching(prober, snapshot_of(a.address)) as (roster, _):
            (standing,) = roster.standings.values()
            await until(lambda: standing.healthy is True)
            roster.override(standing.endpoint.id, state=AdminState.MAINT)
            await asyncio.sleep(0.05)
            probed_at = standing.probed_at
            await asyncio.sleep(0.1)
            assert standing.probed_at == probed_at
            roster.override(standing.endpoint.id, state=AdminState.READY)
            await until(lambda: standing.probed_at != probed_at)

    async def test_engines_that_hang_do_not_make_others_look_down(self, monkeypatch):
        monkeypatch.setattr(engine_client, "MAX_CONNECTIONS", 2)

        async def hang(reader, writer):
            await reader.read()
            writer.close()

        hanging = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = hanging.sockets[0].getsockname()[1]
        async with hanging, Emulator() as a:
            snapshot = snapshot_of(f"127.0.0.1:{port}", f"localhost:{port}", a.address)
            async with watching(prober, snapshot) as (roster, told):
                healthy = roster.standings[f"c/{a.address}"]
                await until(lambda: healthy.healthy is not None)
                await until(lambda: sum(u.healthy is False for u in told) == 2)
                await asyncio.sleep(0.3)
                assert healthy.healthy is True
                assert all(u.healthy for u in told if u.id == healthy.endpoint.id)

    async def test_clusters_without_checks_count_as_healthy(self):
        snapshot = snapshot_of("127.0.0.1:9", more="").clusters["c"]
        snapshot = dataclasses.replace(
            snapshot_of("127.0.0.1:9"),
            clusters={"c": msgspec.structs.replace(snapshot, health=None)},
        )
        async with watching(prober, snapshot) as (roster, told):
            await asyncio.sleep(0.05)
            (standing,) = roster.standings.values()
            assert standing.healthy is None
            assert standing.usable
            assert told == []


class TestScrapes:
    async def test_load_is_read_and_turns_unknown_when_stale(self):
        slow = EmulatorConfig(timing=Timing(decode_step=0.05))
        async with Emulator(slow) as a:
            snapshot = snapshot_of(a.address)
            async with watching(scraper, snapshot) as (roster, told):
                (standing,) = roster.standings.values()
                await until(lambda: standing.load_fresh)
                assert standing.load.running == 0
                assert standing.load.kv_usage is not None
                a.refuse(30)
                await until(lambda: not standing.load_fresh)
                assert told[-1].load is None, "unknown, not zero"
                assert standing.scrape_error is not None
                assert standing.load is not None, "an operator still sees the last one"

    async def test_a_page_of_something_else_is_an_error(self):
        snapshot = snapshot_of("127.0.0.1:9")
        async with Emulator() as a:
            cluster = snapshot_of(a.address).clusters["c"]
            scrape = msgspec.structs.replace(cluster.scrape, path="/version")
            snapshot = dataclasses.replace(
                snapshot_of(a.address),
                clusters={"c": msgspec.structs.replace(cluster, scrape=scrape)},
            )
            async with watching(scraper, snapshot) as (roster, _):
                (standing,) = roster.standings.values()
                await until(lambda: standing.scrape_error is not None)
                assert "vllm:num_requests_running" in standing.scrape_error
                assert standing.load is None


class TestModels:
    async def listing(self, snapshot, wanted):
        published = []
        roster = Roster()
        roster.reconcile(snapshot.endpoints())
        async with EngineClient() as client:
            catalog = ModelCatalog(client, roster, published.append)
            catalog.reconcile(snapshot)
            try:
                await until(lambda: set(wanted) <= set(published[-1].names))
            finally:
                await catalog.close()
        return published[-1]

    async def test_lists_are_merged_and_unknown_fields_kept(self):
        one = Emulator(EmulatorConfig(models=("m1", "shared")))
        two = Emulator(EmulatorConfig(models=("m2", "shared")))
        async with one as a, two as b:
            snapshot = snapshot_of(a.address, b.address, "127.0.0.1:9", more="models: [declared]")
            models = await self.listing(snapshot, {"m1", "m2"})
        data = msgspec.json.decode(models.body)["data"]
        assert sorted(entry["id"] for entry in data) == ["declared", "m1", "m2", "shared"]
        assert all("max_model_len" in entry for entry in data if entry["id"] != "declared")

    async def test_models_that_no_route_takes_are_left_out(self):
        async with Emulator(EmulatorConfig(models=("yes", "no"))) as a:
            snapshot = snapshot_of(a.address, routes="{name: one, match: {model: 'y*'}, to: c}")
            models = await self.listing(snapshot, {"yes"})
        assert models.names == ("yes",)


class TestRoster:
    def make(self, *engines):
        roster, told = Roster(), []
        roster.reconcile(snapshot_of(*engines).endpoints())
        roster.subscribe(told.extend)
        return roster, told

    def test_overrides_survive_reloads_even_without_the_endpoint(self):
        roster, told = self.make("127.0.0.1:1", "127.0.0.1:2")
        roster.override("c/127.0.0.1:1", state=AdminState.DRAIN, weight=5)
        roster.reconcile(snapshot_of("127.0.0.1:2").endpoints())
        assert list(roster.standings) == ["c/127.0.0.1:2"]
        roster.reconcile(snapshot_of("127.0.0.1:1").endpoints())
        standing = roster.standings["c/127.0.0.1:1"]
        assert standing.admin is AdminState.DRAIN
        assert standing.weight == 5
        assert told == [roster.updates()[0]]

    def test_an_override_expires_whole(self):
        roster, told = self.make("127.0.0.1:1")
        roster.override("c/127.0.0.1:1", state=AdminState.MAINT, weight=3, expires_at=10.0)
        assert roster.expire(9.9) == []
        assert roster.expire(10.0) == ["c/127.0.0.1:1"]
        standing = roster.standings["c/127.0.0.1:1"]
        assert standing.override.empty
        assert told[-1].admin == AdminState.READY
        assert told[-1].weight is None
        assert roster.expire(99.0) == []

    def test_what_equals_the_configuration_is_no_override(self):
        roster, _ = self.make("127.0.0.1:1")
        roster.override("c/127.0.0.1:1", state=AdminState.DRAIN, weight=2)
        roster.override("c/127.0.0.1:1", state=AdminState.READY)
        assert roster.standings["c/127.0.0.1:1"].override.weight == 2
        roster.override("c/127.0.0.1:1", weight=1)
        assert roster.standings["c/127.0.0.1:1"].override.empty

    def test_a_bad_weight_and_a_stranger(self):
        roster, told = self.make("127.0.0.1:1")
        with pytest.raises(ValueError, match="at least 1"):
            roster.override("c/127.0.0.1:1", weight=0)
        with pytest.raises(KeyError):
            roster.override("c/127.0.0.1:7", state=AdminState.DRAIN)
        assert told == []


async def test_an_engine_that_is_not_there_is_told_in_plain_words() -> None:
    endpoint = Endpoint(id=EndpointId("c/e"), cluster="c", host="127.0.0.1", port=1)
    async with EngineClient() as client:
        with pytest.raises(EngineUnreachable) as caught:
            await client.get(endpoint, "/health", 5.0)
    told = str(caught.value)
    assert told.startswith("cannot connect: ")
    assert "ssl" not in told and "Errno" not in told
