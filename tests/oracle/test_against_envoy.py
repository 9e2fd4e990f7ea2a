"""What we do beside what Envoy did, for every scenario that this router covers.

``docs/differences-from-envoy.md`` lists every difference with its reason. A difference that is
not on the list fails, and so does one on the list that is none any more.
"""

import asyncio
import re
from collections import Counter

from router.core import events
from router.core.balancers.base import BalancerSpec
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.round_robin import RoundRobin
from router.core.clock import HandClock
from tests.core.world import World, snapshot
from tests.oracle.document import DOCUMENT, Outcomes, compare, near
from tests.oracle.runner import DATA, Scenario, envoys_outcome, outcome, shares
from tests.oracle.virtual_time import in_virtual_time

# --- heads and framing ----------------------------------------------------------------------


async def test_http1_edge() -> None:
    async with Scenario("http1_edge") as scenario:

        async def one(step: dict) -> tuple[str, tuple[str, str]]:  # type: ignore[type-arg]
            if "raw" in step:
                statuses = await scenario.raw(step["sends"])
                envoys = step["observed"]["statuses"]
                return step["raw"], (_statuses(envoys), _statuses(statuses))
            answer = await scenario.send(step["requests"])
            envoys = [row["status"] for row in step["observed"]["requests"]]
            return step["requests"]["tag"], (_statuses(envoys), _statuses([answer.status]))

        outcomes = dict(await asyncio.gather(*(one(step) for step in scenario.steps)))
        assert len(outcomes) == len(scenario.steps) > 60
    compare("http1_edge", outcomes)


def _statuses(statuses: list[int]) -> str:
    return ", ".join(map(str, statuses)) or "no answer"


async def test_edge_headers() -> None:
    outcomes: Outcomes = {}
    async with Scenario("edge_headers") as scenario:
        for step in scenario.steps:
            spec = step["requests"]
            [row] = step["observed"]["requests"]
            answer = await scenario.send(spec)
            outcomes[spec["tag"]] = (str(row["status"]), str(answer.status))
            for name in spec.get("show", ()):
                theirs = row["headers"].get(name, "absent")
                ours = answer.headers.get(name, "absent")
                if name == "date":
                    theirs, ours = "present", "present" if ours != "absent" else ours
                outcomes[f"{spec['tag']}: {name}"] = (theirs, ours)
    compare("edge_headers", outcomes)


# --- which route, which arm -----------------------------------------------------------------


@in_virtual_time
async def test_routing() -> None:
    outcomes: Outcomes = {}
    async with Scenario("routing") as scenario:
        for step in scenario.steps:
            if "requests" not in step:
                continue
            spec, observed = step["requests"], step["observed"]
            answers = await scenario.series(spec, min(300, spec.get("count", 1)))
            if "tag" in spec:
                for row, answer in zip(observed["requests"], answers, strict=True):
                    theirs = f"{envoys_outcome(row)} {row['backend'] or ''}".strip()
                    ours = f"{await scenario.outcome(answer)} {answer.backend or ''}".strip()
                    outcomes[spec["tag"]] = (theirs, ours)
                continue
            total = sum(observed["backends"].values())
            envoys = {name: 100 * n / total for name, n in observed["backends"].items()}
            # 300 draws each: the difference of two shares has a deviation of 3.7 points.
            outcomes[spec["path"]] = near(envoys, shares(answers), points=8)
        assert scenario.left_out == []
    compare("routing", outcomes)


async def test_what_routes_change_on_the_way() -> None:
    """Envoy's backend saw these lines, and its client those."""
    async with Scenario("routing") as scenario:
        specs = {
            step["requests"].get("tag"): step["requests"]
            for step in scenario.steps[:-1]
            if "requests" in step
        }

        async def seen(tag: str) -> tuple[str, list[str]]:
            await scenario.send(specs[tag])
            first, *lines = scenario.backends["b0"].head.decode().split("\r\n")
            return first, [line.replace(":  ", ": ") for line in lines]

        first, lines = await seen("rewrite")
        assert first == "GET /v2/chat?x=1 HTTP/1.1"
        assert {"host: internal", "x-envoy-original-path: /api/v1/chat?x=1"} <= set(lines)
        assert (await seen("regex"))[0] == "GET /x/abc/7 HTTP/1.1"
        lines = [line for line in (await seen("mutate"))[1] if line.startswith("x-")]
        changed = [line for line in lines if not line.startswith(("x-forwarded", "x-request-id"))]
        assert sorted(changed) == [
            "x-add: S",
            "x-add: first",
            "x-ifabsent: old",
            "x-over: new",
            "x-src: S",
        ]
        redirect = await scenario.send(specs["redirect"])
        assert redirect.headers["location"] == "http://oracle.test/new"
        direct = await scenario.send(specs["direct"])
        assert direct.headers["content-type"] == "text/plain"
        arms = {(await scenario.send({"path": "/w"})).headers.get("x-envoy-arm") for _ in range(60)}
        assert arms == {None, "b"}


@in_virtual_time
async def test_a_mirror_gets_what_envoys_got() -> None:
    """Slow and failing as it is, nobody notices; its Host says that these are copies."""
    async with Scenario("routing") as scenario:
        [spec] = [
            step["requests"]
            for step in scenario.steps
            if step.get("requests", {}).get("tag") == "mirror"
        ]
        answers = await scenario.series(spec, spec["count"])
        assert [(answer.status, answer.backend) for answer in answers] == [(200, "b0")] * 3
        state = scenario.server.director.mirrored("mirror", "m")
        async with asyncio.timeout(10):
            while state.in_flight:
                await asyncio.sleep(0.01)
        assert dict(state.ended) == {"error": 3}
        mirror, main = scenario.backends["m"].head, scenario.backends["b0"].head
        assert b"host: oracle.test-shadow" in mirror
        assert [line for line in mirror.split(b"\r\n") if line.startswith(b"x-request-id")] == [
            line for line in main.split(b"\r\n") if line.startswith(b"x-request-id")
        ]


# --- which endpoint -------------------------------------------------------------------------


@in_virtual_time
async def test_balancing_around_a_slow_endpoint() -> None:
    async with Scenario("lb_least_request") as scenario:

        async def stream(step: dict) -> tuple[str, tuple[str, str]]:  # type: ignore[type-arg]
            spec, observed = step["requests"], step["observed"]["backends"]
            tasks = []
            for _ in range(spec["count"]):
                tasks.append(asyncio.create_task(scenario.send(spec)))
                await asyncio.sleep(spec["gap"])
            answers = await asyncio.gather(*tasks)
            total = sum(observed.values())
            envoys = {name: 100 * count / total for name, count in observed.items()}
            return spec["path"], near(envoys, shares(answers), points=8)

        steps = [step for step in scenario.steps if step["requests"].get("parallel")]
        outcomes = dict(await asyncio.gather(*(stream(step) for step in steps)))
        assert set(outcomes) == {"/lr/", "/lrfull", "/rr"}
    compare("lb_least_request", outcomes)


def picks(balancer: BalancerSpec, weights: list[int], count: int) -> list[str]:
    """The endpoints of requests one after another, decided by the core alone."""
    world = World(snapshot(len(weights), balancer=balancer))
    for index, weight in enumerate(weights):
        world.fleet.set_weight(world.host(index).id, weight)
    clock = HandClock()
    names = []
    for _ in range(count):
        exchange, _ = world.begin()
        names.append(exchange.tried[-1].removeprefix("c/h").removesuffix(":80"))
        for event in (events.CONNECTED, events.Head(200), events.COMPLETE):
            exchange.feed(event, clock.advance(0.001))
    return [f"w{name}" for name in names]


def test_weighted_rotation_interleaves_as_envoys() -> None:
    steps = Scenario("lb_least_request").steps
    [order] = [step["observed"]["order"] for step in steps if "order" in step["observed"]]
    ours = picks(RoundRobin.Spec(), [5, 2, 1], 64)
    turns = "".join(ours)
    # Envoy starts somewhere in the rotation, and so do we.
    assert "".join(order) in turns, (order, ours)


def test_weighted_shares_are_envoys() -> None:
    steps = {step["requests"]["path"]: step for step in Scenario("lb_least_request").steps}
    for path, spec in (("/wrr", RoundRobin.Spec()), ("/wlr", LeastRequest.Spec())):
        assert Counter(picks(spec, [5, 2, 1], 400)) == steps[path]["observed"]["backends"], path


# --- failures -------------------------------------------------------------------------------


@in_virtual_time
async def test_retry_matrix() -> None:
    outcomes: Outcomes = {}
    async with Scenario("retry_matrix") as scenario:

        async def one(step: dict) -> None:  # type: ignore[type-arg]
            spec = step["requests"]
            [row] = step["observed"]["requests"]
            answer = await scenario.send(spec)
            outcomes[spec["tag"].replace("|", " on ")] = (
                envoys_outcome(row),
                await scenario.outcome(answer),
            )

        hanging = []
        for step in scenario.steps:
            if "set" in step:
                await asyncio.gather(*hanging)
                hanging.clear()
                scenario.configure(step)
                continue
            if scenario.backends["b0"].behaviour.get("hang"):
                hanging.append(asyncio.create_task(one(step)))  # 3 retry, as they may
            else:
                await one(step)
    assert len(outcomes) == len(scenario.steps) - 15 == 207
    compare("retry_matrix", outcomes)


@in_virtual_time
async def test_timeouts() -> None:
    outcomes: Outcomes = {}
    async with Scenario("timeouts") as scenario:

        async def one(step: dict) -> None:  # type: ignore[type-arg]
            [row] = step["observed"]["requests"]
            answer = await scenario.send(step["requests"])
            ours = await scenario.outcome(answer, late_after=row["took"])
            outcomes[step["requests"]["tag"]] = (envoys_outcome(row), ours)

        await asyncio.gather(*(one(step) for step in scenario.steps))
    compare("timeouts", outcomes)


@in_virtual_time
async def test_breakers() -> None:
    outcomes: Outcomes = {}
    async with Scenario("breakers") as scenario:
        observed = scenario.data["observed"]
        for (name, backend), step in zip(scenario.backends.items(), scenario.steps, strict=True):
            spec = step["requests"]
            answers = await asyncio.gather(*(scenario.send(spec) for _ in range(spec["count"])))
            statuses = Counter(str(answer.status) for answer in answers)
            hits, busiest = observed["backend_hits"][name], observed["backend_max_in_flight"][name]
            outcomes[spec["path"]] = (
                _load(step["observed"]["statuses"], hits, busiest),
                _load(statuses, backend.hits, backend.busiest),
            )
    compare("breakers", outcomes)


def _load(statuses: dict[str, int], hits: int, busiest: int) -> str:
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return f"{answers}; {hits} sent, {busiest} at once"


def test_every_scenario_is_compared_or_listed_as_not() -> None:
    compared = re.findall(r"^## `(\w+)`$", DOCUMENT, re.M)
    recorded = sorted(path.stem for path in DATA.glob("*.json"))
    assert compared == recorded and len(recorded) == 16
    left = DOCUMENT.partition("## Not compared\n")[2]
    assert re.findall(r"^\| `(\w+)`", left, re.M) == ["ext_proc", "overload"]
    assert outcome(503, "URX,UC", 2, cut=True) == "503 UC,URX x2 cut"
