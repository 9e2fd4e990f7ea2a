"""Control's side of outlier detection: reports in, host states, log lines and metrics out."""

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
import structlog

from router.config.build import build
from router.config.load import loads
from router.control.board import Board, create_file
from router.control.outliers import OutlierWatch
from router.control.roster import Roster
from router.core.admission.token_bucket import BucketSpec, Draw
from router.core.health.monitor import FailureMonitor
from router.core.health.outlier import Detector, Outlier
from router.core.model import EndpointId
from router.core.snapshot import Snapshot
from router.telemetry.totals import Totals

NAMES = [f"10.0.0.{n}:80" for n in range(1, 6)]


def configured(outlier: str, names: list[str] = NAMES) -> Snapshot:
    text = f"""
version: 1
clusters: [{{name: c, endpoints: {names}, health: {{outlier: {outlier}}}}}]
routes: [{{name: all, to: c}}]
"""
    return build(loads(text, "test"), 1)


class Control:
    def __init__(self) -> None:
        self.roster = Roster()
        self.reported = Totals()
        self.forgotten: list[str] = []
        self.watch = OutlierWatch(
            self.roster, lambda: self.reported, self.forgotten.append, random.Random(1)
        )
        self.told: list[tuple[str, bool]] = []
        self.roster.subscribe(lambda updates: self.told.extend((u.id, u.ejected) for u in updates))

    def follow(self, snapshot: Snapshot) -> None:
        self.roster.reconcile(snapshot.endpoints())
        self.watch.reconcile(snapshot)

    def report(self, **outcomes: list[int]) -> None:
        """Add what all five endpoints' attempts came to."""
        counts = self.reported.counters.setdefault("endpoint_requests_total", {})
        for outcome, row in outcomes.items():
            for name, count in zip(NAMES, row, strict=True):
                labels = ("c", name, outcome)
                counts[labels] = counts.get(labels, 0) + count

    def report_streams(self, counts: list[int], seconds: list[float]) -> None:
        """All that has been counted by now."""
        for name, row in (("bytes", counts), ("byte_seconds", seconds)):
            self.reported.counters[f"endpoint_first_{name}_total"] = {
                ("c", address): value for address, value in zip(NAMES, row, strict=True)
            }

    def tick(self, after: float = 0.0) -> None:
        self.watch.tick("c", asyncio.get_running_loop().time() + after)

    def ejected(self) -> list[str]:
        return [id_ for id_, standing in self.roster.standings.items() if standing.ejected]


@pytest.fixture
async def control() -> AsyncIterator[Control]:
    control = Control()
    yield control
    await control.watch.close()


async def test_a_suspicion_becomes_a_host_state_a_log_line_and_a_metric(control):
    control.follow(configured("{}"))
    with structlog.testing.capture_logs() as lines:
        control.watch.suspected("c/10.0.0.2:80", "consecutive_5xx")
    assert control.told == [("c/10.0.0.2:80", True)]
    assert lines == [
        {
            "event": "endpoint ejected",
            "log_level": "warning",
            "part": "outlier",
            "cluster": "c",
            "endpoint": "c/10.0.0.2:80",
            "action": "eject",
            "type": "consecutive_5xx",
            "enforced": True,
            "num_ejections": 1,
            "secs_since_last_action": None,
        }
    ]
    totals = Totals()
    control.watch.add_to(totals)
    assert totals.counters["ejections_total"] == {("c", "consecutive_5xx", "true"): 1}
    assert totals.counters["ejections_overflow_total"] == {("c",): 0}
    assert totals.gauges["ejected_endpoints"] == {("c",): 1}


async def test_what_is_not_enforced_is_only_logged(control):
    control.follow(configured("{}"))
    with structlog.testing.capture_logs() as lines:
        control.watch.suspected("c/10.0.0.2:80", "consecutive_gateway_failure")
    assert control.told == []
    assert [(e["event"], e["enforced"]) for e in lines] == [
        ("endpoint found at fault, not ejected", False)
    ]
    totals = Totals()
    control.watch.add_to(totals)
    assert totals.counters["ejections_total"] == {("c", "consecutive_gateway_failure", "false"): 1}


async def test_an_ejection_ends_at_a_tick_and_the_count_starts_anew(control):
    control.follow(configured("{base_ejection_time: 30s}"))
    control.forgotten.clear()
    control.watch.suspected("c/10.0.0.2:80", "consecutive_5xx")
    control.tick(29)
    assert control.ejected() == ["c/10.0.0.2:80"]
    assert control.forgotten == []
    control.tick(31)
    assert control.ejected() == []
    assert control.told[-1] == ("c/10.0.0.2:80", False)
    assert control.forgotten == ["c/10.0.0.2:80"]


async def test_rates_are_those_of_the_interval(control):
    control.follow(configured("{success_rate: {}}"))
    control.report(success=[0, 9000, 9000, 9000, 9000], reset=[9000, 0, 0, 0, 0])
    control.tick()
    assert control.ejected() == [], "the first look shows where to count from"
    control.report(success=[200, 200, 200, 200, 200])
    control.tick()
    assert control.ejected() == [], "what was before the interval is of no interest"
    control.report(
        success=[100, 200, 200, 200, 200],
        status_error=[60, 0, 0, 0, 0],
        truncated=[20, 0, 0, 0, 0],
        timeout=[20, 0, 0, 0, 0],
        pushed_back=[0, 900, 0, 0, 0],
        abandoned=[0, 0, 900, 0, 0],
    )
    with structlog.testing.capture_logs() as lines:
        control.tick()
    assert control.ejected() == ["c/10.0.0.1:80"]
    assert lines[0]["host_success_rate"] == 50
    assert lines[0]["cluster_success_rate_ejection_threshold"] == 52


async def test_a_worker_that_counts_anew_makes_nobody_fail_less_than_never(control):
    control.follow(configured("{failure_percentage: {minimum_hosts: 1}}"))
    control.report(status_error=[1000, 0, 0, 0, 0])
    control.tick()
    control.reported = Totals()
    control.report(success=[60, 60, 60, 60, 60])
    control.tick()
    assert control.ejected() == []


async def test_first_byte_latency_comes_from_the_reports(control):
    control.follow(configured("{latency: {}}"))
    control.report_streams([100] * 5, [50.0] * 5)
    control.tick()
    control.report_streams([120] * 5, [140.0, 60.0, 60.0, 60.0, 60.0])
    control.tick()
    assert control.ejected() == ["c/10.0.0.1:80"]


async def test_a_reload_keeps_the_ejected_and_forgets_who_left(control):
    control.follow(configured("{}"))
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")
    control.watch.suspected("c/10.0.0.2:80", "consecutive_5xx")
    control.forgotten.clear()
    control.follow(configured("{interval: 20s}", NAMES[1:]))
    assert control.ejected() == ["c/10.0.0.2:80"]
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")  # crossed the reload
    assert control.ejected() == ["c/10.0.0.2:80"]
    control.follow(configured("{}"))
    assert control.ejected() == ["c/10.0.0.2:80"]
    assert control.forgotten == ["c/10.0.0.1:80"], "its row may have been another's meanwhile"


async def test_switched_off_everybody_is_back(control):
    control.follow(configured("{}"))
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")
    control.follow(configured("off"))
    assert control.ejected() == []
    assert control.watch.summary("c") is None
    standing = control.roster.standings["c/10.0.0.1:80"]
    assert control.watch.record(standing) is None
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")
    assert control.ejected() == []


@pytest.mark.parametrize("unejects", [True, False])
async def test_a_passed_health_check(control, unejects):
    option = f"successful_active_health_check_uneject: {str(unejects).lower()}"
    control.follow(configured(f"{{{option}}}"))
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")
    control.watch.passed_health_check(control.roster.standings["c/10.0.0.1:80"])
    assert control.ejected() == ([] if unejects else ["c/10.0.0.1:80"])


async def test_intervals_close_by_themselves(control):
    control.follow(configured("{interval: 10ms, base_ejection_time: 10ms}"))
    control.watch.suspected("c/10.0.0.1:80", "consecutive_5xx")
    async with asyncio.timeout(10):
        while control.ejected():
            await asyncio.sleep(0.01)


async def test_the_configuration_reaches_the_core():
    snapshot = configured(
        "{consecutive_5xx: 3, interval: 30s, base_ejection_time: 10m, max_ejection_percent: 66,"
        " always_eject_one_host: false, split_external_local_origin_errors: true,"
        " max_ejection_time_jitter: 2s, enforcing_consecutive_5xx: 12.5,"
        " success_rate: {stdev_factor: 1000}, failure_percentage: {threshold: 40},"
        " latency: {factor: 2, minimum: 250ms}}"
    )
    policy = snapshot.clusters["c"].outlier
    assert policy.consecutive_5xx == 3
    assert (policy.interval, policy.base_ejection_time) == (30.0, 600.0)
    assert policy.max_ejection_time == 600.0, "never less than the base time"
    assert policy.max_ejection_percent == 66
    assert not policy.always_eject_one_host
    assert policy.split_external_local_origin_errors
    assert policy.max_ejection_time_jitter == 2.0
    assert policy.enforcing(Detector.CONSECUTIVE_5XX) == 12.5
    assert policy.success_rate.stdev_factor == 1000
    assert policy.failure_percentage.threshold == 40
    assert (policy.latency.factor, policy.latency.minimum) == (2, 0.25)
    assert EndpointId("c/10.0.0.1:80") in {e.id for e in snapshot.endpoints()}


def test_all_workers_count_in_the_same_words():
    """And those are nobody else's: neither in-flight counts, nor conversations, nor buckets."""
    fd = create_file(8, 3, 64)
    board, other = Board(fd, 8, 3, 64), Board(fd, 8, 3, 64)
    found: list[tuple[str, Detector]] = []
    monitors = [
        FailureMonitor(EndpointId("c/h:80"), 7, words, Outlier(), lambda i, d: found.append((i, d)))
        for words in (board.failure_words, other.failure_words)
    ]
    for monitor in [*monitors, *monitors]:
        monitor.answered(500)
    assert found == []
    for word in (*board.failure_words[:7], *board.cells, *board.affinity_words):
        assert word == 0
    for index in range(len(board.cells)):
        board.cells[index] = -1
    for index in range(64):
        board.affinity_words[index] = 2**64 - 1
    buckets = board.buckets()
    for key in range(1, 50_000, 7):  # more than there is room for
        buckets.take([Draw(key, BucketSpec(capacity=10.0, fill_rate=10.0), 1.0)], 1.0)
    assert list(other.failure_words) == [0] * 7 + [4]
    monitors[1].answered(500)
    assert found == [("c/h:80", Detector.CONSECUTIVE_5XX)]
    del buckets, monitors, monitor
    board.close()
    other.close()
    os.close(fd)
