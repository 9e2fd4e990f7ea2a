"""Sources that are started, asked, retried and ended; what is told, and how often."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from router.config.build import build
from router.config.clusters import EndpointSpec
from router.config.discovery import SPECS, FileDiscovery
from router.config.load import loads
from router.config.schema import Config, decode, encode
from router.config.units import Address, Duration
from router.control.discovery.answer import Answer, DiscoveryFailed
from router.control.discovery.discoverer import Discoverer
from router.control.discovery.registry import REGISTRY

CLUSTERS = """\
version: 1
clusters:
  - {name: found, discovery: {type: file, path: PATH}}
  - {name: written, endpoints: [10.0.0.9:8000]}
routes: [{name: all, to: [{cluster: found, subset: {version: v2}}, {cluster: written}]}]
"""


def config(path: str = "a") -> Config:
    return loads(CLUSTERS.replace("PATH", path), "w.yaml", {})


def specs(*hosts: str) -> tuple[EndpointSpec, ...]:
    return tuple(EndpointSpec(address=Address.parse(f"{host}:8000")) for host in hosts)


class Scripted:
    """A source that says what the test tells it to."""

    max_pause = 0.02

    def __init__(self, spec: FileDiscovery) -> None:
        self.spec = spec
        self.queue: asyncio.Queue[Answer | Exception] = asyncio.Queue()
        self.asked = 0
        self.closed = False

    def say(self, *hosts: str) -> None:
        self.queue.put_nowait(Answer(endpoints=specs(*hosts)))

    def fail(self, error: Exception) -> None:
        self.queue.put_nowait(error)

    async def next(self) -> Answer:
        self.asked += 1
        word = await self.queue.get()
        if isinstance(word, Exception):
            raise word
        return word

    async def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, gap: float = 0.0) -> None:
        self.sources: dict[str, Scripted] = {}
        self.told = 0
        self.discoverer = Discoverer(self._changed, self._make, gap)

    def _make(self, spec: FileDiscovery) -> Scripted:
        return self.sources.setdefault(spec.path, Scripted(spec))

    def _changed(self) -> None:
        self.told += 1

    def source(self, path: str = "a") -> Scripted:
        return self._make(FileDiscovery(path=path))

    async def start(self, wanted: Config, carried: tuple[EndpointSpec, ...] = ()) -> None:
        await self.discoverer.prepare(wanted, lambda name: carried)
        self.discoverer.reconcile(wanted)

    def found(self, wanted: Config) -> list[str]:
        cluster = self.discoverer.resolve(wanted).clusters[0]
        return [endpoint.address.host for endpoint in cluster.endpoints]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def world():
    world = World()
    yield world
    await world.discoverer.close()
    assert all(source.closed for source in world.sources.values() if source.asked)


async def test_a_start_waits_for_the_first_answer(world):
    world.source().say("x", "y")
    await world.start(config())
    resolved = world.discoverer.resolve(config())
    assert world.found(config()) == ["x", "y"]
    assert resolved.clusters[1] == config().clusters[1]
    built = build(decode(encode(resolved)), 1)
    assert [e.address for e in built.clusters["found"].endpoints] == ["x:8000", "y:8000"]


async def test_a_start_goes_on_after_a_failure_or_in_time(world):
    world.source().fail(DiscoveryFailed("refused"))
    await world.start(config())
    assert world.found(config()) == []
    assert world.discoverer.status(config(), "found")["error"] == "refused"
    await world.discoverer.prepare(config("silent"), lambda name: (), 0.01)
    assert build(world.discoverer.resolve(config("silent")), 1).clusters["found"].endpoints == ()


async def test_failures_are_retried_and_keep_what_is_known(world):
    source = world.source()
    source.say("x")
    await world.start(config())
    for error in (DiscoveryFailed("refused"), RuntimeError("a mistake"), DiscoveryFailed("gone")):
        source.fail(error)
    await world.until(lambda: source.asked == 5)
    assert world.found(config()) == ["x"]
    status = world.discoverer.status(config(), "found")
    assert (status["type"], status["state"], status["error"]) == ("file", "stale", "gone")
    told = world.told
    source.say("y")
    await world.until(lambda: world.told > told)
    assert world.found(config()) == ["y"]
    assert world.discoverer.memberships(config())["found"].results["failed"] == 3


async def test_a_storm_of_changes_is_told_seldom():
    world = World(gap=0.2)
    source = world.source()
    source.say("x")
    await world.start(config())
    for number in range(300):
        source.say("x", f"y{number}")
        await asyncio.sleep(0.001)
    await world.until(lambda: world.found(config()) == ["x", "y299"])
    loop = asyncio.get_running_loop()
    told, since = world.told, loop.time()
    assert 1 <= told <= 10
    await world.until(lambda: loop.time() - since > 0.3)
    assert world.told <= told + 1
    await world.discoverer.close()


async def test_an_empty_answer_is_believed_by_the_clock_alone(world):
    patient = msgspec.structs.replace(config().clusters[0].discovery, empty_after=Duration(0.05))
    cluster = msgspec.structs.replace(config().clusters[0], discovery=patient)
    wanted = msgspec.structs.replace(config(), clusters=(cluster, config().clusters[1]))
    world.source().say("x")
    await world.start(wanted)
    world.source().say()
    await world.until(lambda: world.discoverer.status(wanted, "found")["empty_for"] is not None)
    assert world.found(wanted) == ["x"]
    await world.until(lambda: world.found(wanted) == [])
    await world.until(lambda: world.told == 2)


async def test_another_source_takes_over_when_it_has_answered(world):
    world.source("a").say("x")
    await world.start(config("a"))
    serving = world.discoverer.resolve(config("a")).clusters[0].endpoints
    world.source("b").fail(DiscoveryFailed("not yet"))
    await world.start(config("b"), carried=serving)
    assert world.found(config("b")) == ["x"]
    await world.until(lambda: world.source("a").closed)
    told = world.told
    world.source("b").say("z")
    await world.until(lambda: world.told > told)
    assert world.found(config("b")) == ["z"]


async def test_a_refused_configuration_leaves_no_source_behind(world):
    world.source("a").say("x")
    await world.start(config("a"))
    world.source("b").say("z")
    await world.discoverer.prepare(config("b"), lambda name: ())
    world.discoverer.reconcile(config("a"))
    await world.until(lambda: world.source("b").closed)
    assert not world.source("a").closed
    assert world.found(config("a")) == ["x"]
    assert world.found(config("b")) == []


async def test_the_same_settings_keep_their_source(world):
    world.source().say("x")
    await world.start(config())
    asked = world.source().asked
    await world.start(config())
    assert world.source().asked == asked


def test_every_section_has_its_source():
    assert {source.Spec for source in REGISTRY} == set(SPECS)
