"""DNS discovery against a name server on loopback."""

import asyncio
import importlib.util

import pytest

from router.config.discovery import DnsDiscovery
from router.config.units import Address, Interval
from router.control.discovery import dns as module
from router.control.discovery.answer import DiscoveryFailed
from tests.control.discovery.name_server import SERVFAIL, name_server

pytest.importorskip("aiodns")


@pytest.fixture
async def server():
    async with name_server() as server:
        yield server


def source(server, record="A", **settings):
    port = None if record == "SRV" else 8000
    defaults = {"min_ttl": Interval(0.01), "max_ttl": Interval(60.0)}
    spec = DnsDiscovery(
        name="engines.example",
        record=record,
        port=port,
        resolver=Address.parse(server.address),
        **(defaults | settings),
    )
    return module.DnsSource(spec)


async def endpoints(of) -> list[tuple[str, int]]:
    return [(str(spec.address), spec.weight) for spec in (await of.next()).endpoints]


@pytest.mark.parametrize(
    ("record", "values", "expected"),
    [
        ("A", ["10.0.0.2", "10.0.0.1"], ["10.0.0.1:8000", "10.0.0.2:8000"]),
        ("A", ["10.0.0.1", "10.0.0.1"], ["10.0.0.1:8000"]),
        ("AAAA", ["fd00::2", "fd00::1"], ["[fd00::1]:8000", "[fd00::2]:8000"]),
    ],
)
async def test_addresses_come_sorted_and_once(server, record, values, expected):
    server.zone["engines.example", record] = [(value, 30) for value in values]
    assert await endpoints(source(server, record)) == [(address, 1) for address in expected]


async def test_services_bring_ports_and_weights_of_the_best_priority(server):
    server.zone["engines.example", "SRV"] = [
        ("10 30 8001 a.example", 30),
        ("10 0 8002 b.example", 30),
        ("20 5 8003 c.example", 30),
        ("10 5 0 c.example", 30),
    ]
    server.zone["a.example", "A"] = [("10.0.0.1", 30)]
    server.zone["b.example", "AAAA"] = [("fd00::2", 30)]
    server.zone["b.example", "A"] = [("10.0.0.2", 30)]
    server.zone["c.example", "A"] = [("10.0.0.3", 30)]
    assert await endpoints(source(server, "SRV")) == [
        ("10.0.0.1:8001", 30),
        ("10.0.0.2:8002", 1),
        ("[fd00::2]:8002", 1),
    ]


async def test_a_priority_without_addresses_is_passed_over(server):
    server.zone["engines.example", "SRV"] = [
        ("10 1 8001 gone.example", 30),
        ("20 1 8003 c.example", 30),
        ("5 1 80 .", 30),
    ]
    server.zone["c.example", "A"] = [("10.0.0.3", 30)]
    assert await endpoints(source(server, "SRV")) == [("10.0.0.3:8003", 1)]


@pytest.mark.parametrize(
    ("ttls", "wait"), [([300, 20], 20.0), ([0], 7.0), ([3], 7.0), ([4_000], 60.0)]
)
async def test_the_time_to_live_is_honoured_within_bounds(server, monkeypatch, ttls, wait):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    server.zone["engines.example", "A"] = [(f"10.0.0.{n}", ttl) for n, ttl in enumerate(ttls)]
    follows = source(server, min_ttl=Interval(7.0))
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    await follows.next()
    await follows.next()
    assert slept == [0.0, wait]


async def test_an_alias_is_followed_and_its_time_counts(server, monkeypatch):
    server.zone["engines.example", "CNAME"] = [("pool.example", 9)]
    server.zone["pool.example", "A"] = [("10.0.0.1", 300)]
    follows = source(server)
    assert await endpoints(follows) == [("10.0.0.1:8000", 1)]
    assert follows._wait == 9.0


async def test_changes_are_found_although_the_resolver_could_have_cached(server):
    server.zone["engines.example", "A"] = [("10.0.0.1", 300)]
    follows = source(server, max_ttl=Interval(0.02))
    assert await endpoints(follows) == [("10.0.0.1:8000", 1)]
    server.zone["engines.example", "A"] = [("10.0.0.2", 300)]
    assert await endpoints(follows) == [("10.0.0.2:8000", 1)]


async def test_a_name_that_is_gone_or_has_no_such_record_is_an_answer(server):
    assert await endpoints(source(server)) == []
    server.zone["engines.example", "AAAA"] = [("fd00::1", 30)]
    assert await endpoints(source(server)) == []
    assert await endpoints(source(server, "SRV")) == []


async def test_failures_are_told_and_mended(server, monkeypatch):
    monkeypatch.setattr(module, "QUERY_TIMEOUT", 0.05)
    server.zone["engines.example", "A"] = [("10.0.0.1", 30)]
    follows = source(server)
    for fault, value in (("status", SERVFAIL), ("silent", True), ("garbled", True)):
        before = getattr(server, fault)
        setattr(server, fault, value)
        with pytest.raises(DiscoveryFailed, match=r"A engines\.example: "):
            await follows.next()
        setattr(server, fault, before)
    assert await endpoints(follows) == [("10.0.0.1:8000", 1)]


async def test_a_service_whose_targets_cannot_be_asked_for_is_a_failure(server, monkeypatch):
    """Or a name server that fails in part would take engines away."""
    monkeypatch.setattr(module, "QUERY_TIMEOUT", 0.05)
    server.zone["engines.example", "SRV"] = [("1 1 80 a.example", 30)]
    follows = source(server, "SRV")
    answer = server._answers
    monkeypatch.setattr(
        server, "_answers", lambda name, kind: answer(name, kind) if kind == "SRV" else ([], 2)
    )
    with pytest.raises(DiscoveryFailed, match=r"a\.example"):
        await follows.next()


async def test_a_lookup_that_hangs_ends(server, monkeypatch):
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.05)
    server.silent = True
    with pytest.raises(DiscoveryFailed, match="no answer in"):
        await source(server).next()


def test_without_the_package_the_hint_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    faults = dict(DnsDiscovery(name="a.b", port=80).faults())
    assert faults == {"type": "needs the package aiodns: pip install 'warmpath[dns]'"}


async def test_it_ends_when_cancelled(server):
    server.silent = True
    task = asyncio.create_task(source(server).next())
    while not server.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
