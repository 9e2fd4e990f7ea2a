"""Which endpoints are in rotation, and which of them a key belongs to, as Envoy was seen to do it.

In virtual time, so that their ejections, which are seconds long, take none.
"""

import asyncio
from collections import Counter
from typing import Any

from tests.oracle.document import Outcomes, compare, near
from tests.oracle.runner import Scenario, shares
from tests.oracle.virtual_time import in_virtual_time

PHASE = 0.062
"""Seconds from the start of outlier detection's clock to the first request, in the recordings."""


async def played(
    scenario: Scenario, phase: float = 0.0, times: int = 1
) -> list[tuple[dict[str, Any], Any]]:
    """Each step with what came of it: answers, or who is ejected by cluster.

    Args:
        times: as many requests as Envoy got, where only their shares are compared.
    """
    found: list[tuple[dict[str, Any], Any]] = []
    await asyncio.sleep(phase)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for step in scenario.steps:
        if "requests" in step:
            at = step["observed"].get("t", 0)  # when Envoy's were sent
            await asyncio.sleep(max(0, started + at - loop.time()))
            spec = step["requests"]
            shared = "tag" in spec or isinstance(step["observed"].get("backends"), dict)
            count = spec.get("count", 1) * (times if shared else 1)
            found.append((step, await scenario.series(spec, count)))
        elif "set" in step:
            scenario.configure(step)
        elif "sleep" in step:
            await asyncio.sleep(step["sleep"])
        elif "hosts" in step:
            found.append((step, scenario.ejected()))
    return found


def statuses(counts: Counter[int]) -> str:
    return ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))


def verdicts(scenario: Scenario, started: float) -> list[tuple[float, str, str, str, int, bool]]:
    """Ours as Envoy logs them, with the time since the first request."""
    return [
        (
            at - started,
            event.action,
            scenario.name_of(event.endpoint),
            str(event.detector),
            event.ejections,
            event.enforced,
        )
        for at, event in scenario.control.events
    ]


def envoys_verdicts(scenario: Scenario) -> list[tuple[float, str, str, str, int, bool]]:
    return [
        (
            event["t"],
            event["action"].lower(),
            event["host"],
            event["type"].lower(),
            event["num_ejections"],
            event["enforced"],
        )
        for event in scenario.data["observed"]["outlier_events"]
    ]


@in_virtual_time
async def test_consecutive_5xx() -> None:
    outcomes: Outcomes = {}
    async with Scenario("outlier_5xx") as scenario:
        started = asyncio.get_running_loop().time() + PHASE
        number = 0
        for step, came in await played(scenario, PHASE):
            if "hosts" in step:
                assert came == step["observed"]["ejected"]
                continue
            number += 1
            theirs = Counter(step["observed"]["statuses"])
            ours = Counter(answer.status for answer in came)
            outcomes[f"requests {number}"] = (statuses(theirs), statuses(ours))
        envoys, ours = envoys_verdicts(scenario), verdicts(scenario, started)
        assert [verdict[1:] for verdict in ours] == [verdict[1:] for verdict in envoys]
        for (at, *_), (expected, *_) in zip(ours, envoys, strict=True):
            assert abs(at - expected) < 1.0, (at, expected)  # one interval
    compare("outlier_5xx", outcomes)


@in_virtual_time
async def test_which_failures_feed_which_detector() -> None:
    outcomes: Outcomes = {}
    async with Scenario("outlier_kinds") as scenario:
        for step, answers in await played(scenario):
            theirs = Counter(step["observed"]["statuses"])
            ours = Counter(answer.status for answer in answers)
            outcomes[step["requests"]["path"]] = (statuses(theirs), statuses(ours))
        envoys = [verdict[1:] for verdict in envoys_verdicts(scenario)]
        assert [verdict[1:] for verdict in verdicts(scenario, 0)] == envoys
    compare("outlier_kinds", outcomes)


@in_virtual_time
async def test_how_many_may_be_ejected() -> None:
    outcomes: Outcomes = {}
    async with Scenario("outlier_percent") as scenario:
        stats = scenario.data["observed"]["stats"]
        [*_, (step, ejected)] = await played(scenario)
        for cluster, hosts in step["observed"]["ejected"].items():
            prefix = f"cluster.{cluster}.outlier_detection.ejections_"
            summary = scenario.control.outliers.summary_of(cluster)
            overflow = stats.get(prefix + "overflow", 0)
            outcomes[cluster] = (
                f"{len(hosts)} ejected, {overflow} too many",
                f"{len(ejected[cluster])} ejected, {summary['overflow']} too many",
            )
    compare("outlier_percent", outcomes)


@in_virtual_time
async def test_hashing() -> None:
    outcomes: Outcomes = {}
    async with Scenario("hashing") as scenario:
        # Where a host lies on the ring depends on its port: only shares can be alike, of many.
        steps = await played(scenario, times=5)
    owners: dict[str, list[str | None]] = {}
    for number, (step, answers) in enumerate(steps, 1):
        spec, observed = step["requests"], step["observed"]
        name = spec.get("tag") or f"{spec['path']} {number}"
        owners[name] = [answer.backend for answer in answers]
        if "requests" in observed:
            theirs = _spread([row["backend"] for row in observed["requests"]])
            outcomes[name] = (theirs, _spread(owners[name]))
        elif isinstance(observed["backends"], dict):
            total = sum(observed["backends"].values())
            envoys = {host: 100 * n / total for host, n in observed["backends"].items()}
            outcomes[name] = near(envoys, shares(answers), points=25)
        if "show" in spec:
            outcomes[f"{name}: {spec['show'][0]}"] = (
                _present(row["headers"] for row in observed["requests"]),
                _present(answer.headers for answer in answers),
            )
    assert owners["/ring 1"] == owners["/ring 2"]
    assert "b1" not in owners["/ring 8"], "it is ejected"
    kept = [
        before == after
        for before, after in zip(owners["/ring 1"], owners["/ring 8"], strict=True)
        if before != "b1"
    ]
    # Fewer hosts have more points each, on Envoy's ring of fixed size as on ours: some move.
    assert sum(kept) > 0.6 * len(kept), owners
    compare("hashing", outcomes)


def _spread(backends: list[str | None]) -> str:
    return "always the same" if len(set(backends)) == 1 else "several"


def _present(rows: Any) -> str:
    return "given" if all("set-cookie" in headers for headers in rows) else "absent"


@in_virtual_time
async def test_rate_limits() -> None:
    outcomes: Outcomes = {}
    async with Scenario("ratelimit") as scenario:
        assert not scenario.left_out
        for number, (step, answers) in enumerate(await played(scenario), 1):
            observed = step["observed"]
            if "requests" not in observed:
                theirs = " ".join(map(str, observed["statuses"]))
                ours = " ".join(str(answer.status) for answer in answers)
                outcomes[f"{step['requests']['path']} {number}"] = (theirs, ours)
                continue
            for index, (row, answer) in enumerate(zip(observed["requests"], answers, strict=True)):
                outcomes[f"{step['requests']['tag']} {index + 1}"] = (
                    _standing(row["status"], row["headers"]),
                    _standing(answer.status, answer.headers),
                )
    compare("ratelimit", outcomes)


def _standing(status: int, headers: dict[str, str]) -> str:
    names = [f"x-ratelimit-{name}" for name in ("limit", "remaining", "reset")]
    return f"{status}; {'/'.join(headers.get(name, 'none') for name in names)}"


@in_virtual_time
async def test_checks_and_ejections_together() -> None:
    outcomes: Outcomes = {}
    async with Scenario("misc") as scenario:
        for step, came in await played(scenario):
            if "hosts" in step:
                # The last time counts: before, it depends on when the next check is due.
                for cluster in ("hc", "hcoff"):
                    outcomes[f"{cluster}: ejected"] = (
                        ", ".join(step["observed"]["ejected"][cluster]) or "nobody",
                        ", ".join(came[cluster]) or "nobody",
                    )
                continue
            spec, observed = step["requests"], step["observed"]
            theirs, ours = _counts(observed), Counter(answer.status for answer in came)
            outcomes[spec["path"]] = _alike(theirs, ours)
    compare("misc", outcomes)


def _counts(observed: dict[str, Any]) -> Counter[int]:
    if "requests" in observed:
        return Counter(row["status"] for row in observed["requests"])
    counts = observed["statuses"]
    if isinstance(counts, list):
        return Counter(counts)
    return Counter({int(status): count for status, count in counts.items()})


def _alike(theirs: Counter[int], ours: Counter[int]) -> tuple[str, str]:
    """As text; the same text where only chance makes a difference."""
    text = statuses(theirs)
    drawn = theirs.total() >= 100 and theirs.keys() == ours.keys()
    if drawn and all(abs(theirs[status] - ours[status]) <= 20 for status in theirs):
        return text, text
    return text, statuses(ours)


@in_virtual_time
async def test_edge_of_internal_callers() -> None:
    outcomes: Outcomes = {}
    async with Scenario("edge_internal") as scenario:
        for step, answers in await played(scenario):
            [row], [answer] = step["observed"]["requests"], answers
            outcomes[step["requests"]["tag"]] = (str(row["status"]), str(answer.status))
    compare("edge_internal", outcomes)
