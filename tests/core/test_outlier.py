"""One cluster's ejections, told as timelines."""

import pytest

from router.core.health.outlier import (
    Detector,
    FailurePercentage,
    FirstByteLatency,
    Outlier,
    SuccessRate,
)
from router.core.health.statistics import Tally
from router.core.model import EndpointId
from tests.core.outliers import Watched, as_envoy

B0, B1, B2 = (EndpointId(f"b{index}") for index in range(3))


def rates(*well_of_hundred: int) -> dict[EndpointId, Tally]:
    return {
        EndpointId(f"b{index}"): Tally(answered_well=well, answered_badly=100 - well)
        for index, well in enumerate(well_of_hundred)
    }


def test_an_ejection_ends_at_the_first_tick_after_its_time():
    watched = Watched(3, Outlier(consecutive_5xx=3, interval=1.0, base_ejection_time=2.0))

    watched.at(0.4).answers("b0", 500, 500)
    assert watched.out == set()
    watched.answers("b0", 500)
    assert watched.out == {"b0"}, "at once, not at the interval"
    # Over at 2.4, but nobody looks before 3.0.
    assert watched.at(2.99).out == {"b0"}
    assert watched.at(3.0).out == set()


def test_each_ejection_lasts_longer_and_time_in_rotation_makes_up_for_it():
    policy = Outlier(consecutive_5xx=1, interval=1.0, base_ejection_time=2.0, max_ejection_time=5.0)
    watched = Watched(3, policy)
    lasted = []
    at = 0.5
    for _ in range(5):
        watched.at(at).answers("b0", 500)
        began = at
        while "b0" in watched.out:
            at += 0.5
            watched.at(at)
        lasted.append(at - began)
        at += 0.5  # fails again before a whole interval in rotation
    assert lasted == [2.5, 4.5, 5.5, 5.5, 5.5], "up to max_ejection_time and the next tick"
    record = watched.detector.records[B0]
    assert (record.backoff, record.ejections) == (4, 5), "the factor has a bound too"

    watched.at(at + 2.5)
    assert record.backoff == 1, "one less for every interval in rotation"
    watched.at(at + 100)
    assert record.backoff == 0, "and never below none"
    watched.answers("b0", 500)
    assert record.due(policy) == pytest.approx(at + 102)


def test_jitter_is_drawn_once_and_lengthens():
    policy = Outlier(
        consecutive_5xx=1, interval=0.1, base_ejection_time=10.0, max_ejection_time_jitter=5.0
    )
    watched = Watched(40, policy)
    for name in watched.names[:20]:
        watched.answers(name, 500)
    jitters = [watched.detector.records[name].jitter for name in watched.names[:20]]
    assert all(0 <= jitter < 5 for jitter in jitters)
    assert len(set(jitters)) == 20
    dues = [watched.detector.records[name].due(policy) for name in watched.names[:20]]
    watched.at(9.9)
    assert len(watched.out) == 20
    assert dues == [watched.detector.records[name].due(policy) for name in watched.names[:20]]
    watched.at(15.1)
    assert not watched.out


def test_coming_back_makes_every_count_start_anew():
    watched = Watched(3, Outlier(interval=1.0, base_ejection_time=1.0))
    watched.answers("b0", 503, 503, 503, 503, 503)
    assert watched.out == {"b0"}
    watched.answers("b0", 500, 500, 500, 500)  # requests that were under way
    watched.at(2.0)
    assert watched.out == set()
    watched.answers("b0", 500, 500, 500, 500)
    assert watched.out == set()
    watched.answers("b0", 500)
    assert watched.out == {"b0"}


@pytest.mark.parametrize(
    ("hosts", "policy", "ejected", "overflow"),
    [
        (3, {"max_ejection_percent": 10, "always_eject_one_host": False}, 0, 3),
        (3, {"max_ejection_percent": 10}, 1, 2),
        (3, {"max_ejection_percent": 0}, 1, 2),
        (4, {"max_ejection_percent": 50}, 2, 2),
        (3, {"max_ejection_percent": 66}, 1, 2),
        (3, {"max_ejection_percent": 67}, 2, 1),
        (3, {"max_ejection_percent": 100}, 3, 0),
        (1, {}, 1, 0),
        (10, {}, 5, 5),
    ],
)
def test_how_many_may_be_out(hosts, policy, ejected, overflow):
    watched = Watched(hosts, Outlier(consecutive_5xx=1, **policy))
    for name in watched.names:
        watched.answers(name, 500)
    assert len(watched.out) == ejected
    assert watched.detector.overflow == overflow


def test_what_is_not_enforced_is_logged_and_the_count_starts_anew():
    policy = Outlier(consecutive_5xx=2, enforcing_consecutive_5xx=0)
    watched = Watched(2, policy).answers("b0", 500, 500, 500, 500)
    assert watched.log() == [("eject", "b0", "consecutive_5xx", 0, False)] * 2
    assert watched.out == set()
    assert watched.detector.detected == {Detector.CONSECUTIVE_5XX: 2}
    assert watched.detector.enforced == {}


def test_a_percentage_of_the_findings_is_enforced():
    policy = Outlier(consecutive_5xx=1, enforcing_consecutive_5xx=30, max_ejection_percent=100)
    watched = Watched(1000, policy)
    for name in watched.names:
        watched.answers(name, 500)
    assert 250 < len(watched.out) < 350


def test_events_tell_the_time_since_the_last_one_of_the_endpoint():
    watched = Watched(2, Outlier(consecutive_5xx=1, interval=1.0, base_ejection_time=2.0))
    watched.at(0.5).answers("b0", 500)
    watched.at(4.0).answers("b0", 500)
    assert [(e.action, e.since_last_action) for _, e in watched.events] == [
        ("eject", None),
        ("uneject", 2.5),
        ("eject", 1.0),
    ]


# --- active health checks -----------------------------------------------------------------------


@pytest.mark.parametrize(("unejects", "out"), [(True, set()), (False, {"b0"})])
def test_a_passed_health_check_unejects_where_wanted(unejects, out):
    policy = Outlier(consecutive_5xx=1, successful_active_health_check_uneject=unejects)
    watched = Watched(2, policy).at(1.0).answers("b0", 500).at(1.057)
    watched.health_check_passes("b1")
    watched.health_check_passes("b0")
    assert watched.out == out
    watched.health_check_passes("b0")
    assert len(watched.events) == (2 if unejects else 1), "only who is out comes back"


# --- rates --------------------------------------------------------------------------------------


def test_success_rate_as_envoy_had_it():
    """{50, 100, 100, 100, 100}: mean 90, deviation 20, so below 52 goes."""
    policy = as_envoy(
        consecutive_5xx=1000, interval=1.0, base_ejection_time=2.0, max_ejection_percent=50
    )
    watched = Watched(5, policy)
    watched.tallies = rates(50, 100, 100, 100, 100)
    assert watched.at(0.99).out == set(), "not before the interval closes"
    watched.at(1.0)
    assert watched.out == {"b0"}
    (_, event), *others = watched.events
    assert not others
    assert event.detector is Detector.SUCCESS_RATE
    assert event.detail == {
        "host_success_rate": 50,
        "cluster_average_success_rate": 90,
        "cluster_success_rate_ejection_threshold": 52,
    }
    # Ejected at a tick: two seconds later it is that tick's turn just not yet, as with Envoy.
    assert watched.at(3.0).out == {"b0"}
    assert watched.at(4.0).out == set()


@pytest.mark.parametrize(
    "tallies",
    [
        pytest.param(rates(50, 100, 100, 100), id="too few hosts"),
        pytest.param(
            rates(100, 100, 100, 100) | {EndpointId("b4"): Tally(answered_badly=99)},
            id="too few requests",
        ),
        pytest.param(rates(60, 70, 80, 90, 100), id="all differ"),
        pytest.param(rates(0, 0, 0, 0, 0), id="all are as bad"),
        pytest.param({}, id="nothing happened"),
    ],
)
def test_success_rate_finds_nobody(tallies):
    watched = Watched(5, Outlier(success_rate=SuccessRate()))
    watched.tallies = tallies
    assert watched.at(10.0).events == []


def test_the_ejected_are_not_among_those_compared():
    watched = Watched(5, Outlier(success_rate=SuccessRate(), consecutive_5xx=1))
    watched.answers("b4", 500)
    watched.tallies = rates(50, 100, 100, 100, 100)
    assert watched.at(10.0).out == {"b4"}, "four are left, and five are needed"


def test_failure_percentage():
    policy = Outlier(failure_percentage=FailurePercentage(threshold=40, minimum_hosts=3))
    watched = Watched(4, policy)
    watched.tallies = rates(60, 61, 10, 100)
    watched.at(10.0)
    assert watched.log() == [
        ("eject", "b0", "failure_percentage", 1, True),
        ("eject", "b2", "failure_percentage", 1, True),
    ]
    assert watched.events[1][1].detail == {"host_failure_percentage": 90}


def test_failures_without_an_answer_count_like_others_or_apart():
    tallies = {B0: Tally(answered_well=50, unanswered=50), B1: Tally(answered_well=100)}
    rule = FailurePercentage(threshold=50, minimum_hosts=2)
    for split, detector in (
        (False, Detector.FAILURE_PERCENTAGE),
        (True, Detector.FAILURE_PERCENTAGE_LOCAL_ORIGIN),
    ):
        policy = Outlier(failure_percentage=rule, split_external_local_origin_errors=split)
        watched = Watched(2, policy)
        watched.tallies = dict(tallies)
        watched.at(10.0)
        assert watched.log() == [("eject", "b0", detector.value, 1, True)]


def test_success_rates_apart():
    policy = Outlier(
        success_rate=SuccessRate(minimum_hosts=4, stdev_factor=1500),
        split_external_local_origin_errors=True,
    )
    watched = Watched(4, policy)
    watched.tallies = rates(100, 100, 100, 0)
    watched.tallies[B0] = Tally(answered_well=200, unanswered=100)
    watched.at(10.0)
    assert watched.log() == [
        ("eject", "b3", "success_rate", 1, True),
        ("eject", "b0", "success_rate_local_origin", 1, True),
    ]


# --- first-byte latency -------------------------------------------------------------------------


def streams(*seconds: float) -> dict[EndpointId, Tally]:
    return {
        EndpointId(f"b{index}"): Tally(streams=10, first_byte_seconds=10 * each)
        for index, each in enumerate(seconds)
    }


@pytest.mark.parametrize(
    ("means", "out"),
    [
        ((0.5, 0.5, 4.0), {"b2"}),
        ((0.5, 0.5, 1.4), set()),  # not three times the median
        ((0.01, 0.01, 0.9), set()),  # ninety times, and still less than a second
        ((2.0, 2.0, 6.5, 7.0), set()),  # the median is that of all: 4.25
        ((2.0, 4.0), set()),  # two cannot say which of them is the odd one
        ((9.0, 9.0, 9.0), set()),  # all are slow: it is the load
    ],
)
def test_who_begins_much_later_than_the_median_goes(means, out):
    watched = Watched(4, Outlier(latency=FirstByteLatency()))
    watched.tallies = streams(*means)
    assert watched.at(10.0).out == out


def test_latency_says_why():
    watched = Watched(3, Outlier(latency=FirstByteLatency(factor=2)))
    watched.tallies = streams(1.0, 1.2, 4.0)
    ((_, event),) = watched.at(10.0).events
    assert event.detail == {
        "host_first_byte_seconds": 4.0,
        "cluster_median_first_byte_seconds": 1.2,
        "cluster_first_byte_ejection_threshold": 2.4,
    }


def test_latency_needs_some_streams():
    watched = Watched(3, Outlier(latency=FirstByteLatency()))
    watched.tallies = streams(0.5, 0.5, 4.0)
    watched.tallies[B2] = Tally(streams=9, first_byte_seconds=90.0)
    assert watched.at(10.0).out == set()


# --- reloads ------------------------------------------------------------------------------------


def test_a_reload_keeps_the_ejected_out_and_forgets_who_left():
    watched = Watched(4, Outlier(consecutive_5xx=1))
    watched.answers("b0", 500).answers("b1", 500)
    watched.names = [B1, B2]
    watched.reload(Outlier(consecutive_5xx=1, max_ejection_percent=50))
    assert watched.out == {"b1"}
    watched.answers("b2", 500)
    assert watched.out == {"b1"}, "one of two is half"
    assert watched.detector.suspected(B0, Detector.CONSECUTIVE_5XX, 1.0) == []


def test_switching_it_off_brings_everybody_back():
    watched = Watched(4, Outlier(consecutive_5xx=1))
    watched.answers("b0", 500).answers("b1", 500)
    events = watched.detector.dismiss(5.0)
    assert [(event.action, event.endpoint) for event in events] == [
        ("uneject", B0),
        ("uneject", B1),
    ]
    assert watched.out == set()
