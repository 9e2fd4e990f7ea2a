"""A real Envoy's recorded requests, replayed: the same ejections, at the same times, or nearly.

The recordings say which host answered what, in which order; the times of single requests are
spread evenly over their step.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from router.core.health.outlier import Detector
from tests.core.outliers import Watched, as_envoy

RECORDINGS = Path(__file__).resolve().parent.parent / "data" / "outlier"


def recording(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((RECORDINGS / f"{name}.json").read_text())
    return read


def steps(read: dict[str, Any]) -> list[list[tuple[float, str | None, int]]]:
    """Of each step of requests: (time, host, status); no host means that none answered."""
    timeline = read["timeline"]
    found = []
    for step, following in zip(timeline, [*timeline[1:], None], strict=True):
        if step["step"] != "requests":
            continue
        begin = step["t"]
        end = begin + 0.2 if following is None else following["t"]
        apart = (end - begin) / len(step["statuses"])
        times = [begin + apart * (index + 0.5) for index in range(len(step["statuses"]))]
        found.append(list(zip(times, step["backends"], step["statuses"], strict=True)))
    return found


def replay(watched: Watched, step: list[tuple[float, str | None, int]], silent: str = "") -> None:
    """Args: silent: the host that was asked where no host answered."""
    for time, host, status in step:
        watched.at(time).answers(host or silent, status if host else 0)


def test_consecutive_5xx_growing_ejection_time_and_decay() -> None:
    read = recording("5xx")
    policy = as_envoy(
        consecutive_5xx=3, interval=1.0, base_ejection_time=2.0, max_ejection_percent=50
    )
    watched = Watched(["b0", "b1", "b2"], policy, phase=0.938)
    for step in steps(read):
        replay(watched, step)
    watched.at(17.0)

    recorded = read["outlier_events"]
    assert watched.log() == [
        (e["action"].lower(), e["host"], e["type"].lower(), e["num_ejections"], e["enforced"])
        for e in recorded
    ]
    for (time, _), event in zip(watched.events, recorded, strict=True):
        assert time == pytest.approx(event["t"], abs=0.1)
    assert watched.detector.enforced == {Detector.CONSECUTIVE_5XX: 3}


KINDS: list[tuple[str, list[str], dict[str, Any]]] = [
    (
        "gw",
        ["g0", "g1"],
        {"consecutive_5xx": 100, "consecutive_gateway_failure": 3}
        | {"enforcing_consecutive_gateway_failure": 100},
    ),
    ("gwdef", ["g0", "g1"], {"consecutive_5xx": 100, "consecutive_gateway_failure": 2}),
    ("local", ["l0", "l1"], {"consecutive_5xx": 3}),
    (
        "split",
        ["s0", "s1"],
        {"consecutive_5xx": 3, "split_external_local_origin_errors": True}
        | {"consecutive_local_origin_failure": 4},
    ),
    ("reset", ["r0", "r1"], {"consecutive_5xx": 3}),
    ("tmo", ["t0", "t1"], {"consecutive_5xx": 3}),
]


@pytest.mark.parametrize(
    ("number", "kind"), list(enumerate(KINDS)), ids=[name for name, _, _ in KINDS]
)
def test_which_failures_feed_which_detector(number: int, kind: tuple[str, list[str], Any]) -> None:
    read = recording("kinds")
    name, hosts, fields = kind
    watched = Watched(hosts, as_envoy(interval=60.0, max_ejection_percent=100, **fields))
    replay(watched, steps(read)[number], silent=hosts[1])

    recorded = read["outlier_events"][number]
    assert watched.log() == [
        (
            *("eject", hosts[1], recorded["type"].lower()),
            *(recorded["num_ejections"], recorded["enforced"]),
        )
    ]
    prefix = f"cluster.{name}.outlier_detection.ejections_"
    for kind_of_count, counts in (
        ("detected", watched.detector.detected),
        ("enforced", watched.detector.enforced),
    ):
        for detector in Detector:
            expected = read["stats"].get(f"{prefix}{kind_of_count}_{detector}", 0)
            assert counts.get(detector, 0) == expected


PERCENTS: list[tuple[str, int, dict[str, Any]]] = [
    ("ten", 3, {"max_ejection_percent": 10, "enforcing_consecutive_gateway_failure": 0}),
    ("tenone", 3, {"max_ejection_percent": 10, "always_eject_one_host": True}),
    ("fifty", 4, {"max_ejection_percent": 50}),
    ("sixtysix", 3, {"max_ejection_percent": 66}),
    ("hundred", 3, {"max_ejection_percent": 100}),
    ("panic", 3, {"max_ejection_percent": 100}),
]


@pytest.mark.parametrize(
    ("number", "row"), list(enumerate(PERCENTS)), ids=[row[0] for row in PERCENTS]
)
def test_max_ejection_percent_to_the_host(number: int, row: tuple[str, int, Any]) -> None:
    read = recording("percent")
    name, hosts, fields = row
    watched = Watched(hosts, as_envoy(consecutive_5xx=2, interval=60.0, **fields))
    replay(watched, steps(read)[number])

    prefix = f"cluster.{name}.outlier_detection.ejections_"
    stats = read["stats"]
    assert len(watched.out) == stats.get(f"{prefix}active", 0)
    assert sum(watched.detector.enforced.values()) == stats.get(f"{prefix}enforced_total", 0)
    assert watched.detector.overflow == stats.get(f"{prefix}overflow", 0)
    flagged = {
        host
        for host, seen in read["timeline"][-1]["hosts"][name].items()
        if seen["flags"].get("failed_outlier_check")
    }
    assert watched.out == flagged
