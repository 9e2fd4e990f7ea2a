"""Priorities derived from places and labels, as Istio derives them."""

import pytest

from router.config.build import build
from router.config.load import loads
from router.core.cluster import Cluster

HERE = "locality: us-east/b/rack1"

TEXT = """\
version: 1
TOP
clusters:
  - name: c
    endpoints:
      - {address: "10.0.0.1:80", locality: us-east/b/rack1, labels: {version: v1}}
      - {address: "10.0.0.2:80", locality: us-east/b/rack2, labels: {version: v2}}
      - {address: "10.0.0.3:80", locality: {region: us-east, zone: c}, labels: {version: v1}}
      - {address: "10.0.0.4:80", locality: us-west/a, labels: {version: v1}}
      - {address: "10.0.0.5:80", locality: eu/a, labels: {version: v2}}
      - {address: "10.0.0.6:80"}
    localities: RULES
routes: [{name: r, to: c}]
"""


def cluster(rules: str, top: str = HERE) -> Cluster:
    text = TEXT.replace("TOP", top).replace("RULES", rules)
    return build(loads(text, "w", {}), 1).clusters["c"]


def priorities(rules: str, top: str = HERE) -> list[int]:
    return [endpoint.priority for endpoint in cluster(rules, top).endpoints]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("off", [0, 0, 0, 0, 0, 0]),
        ("{weights: {us-east: 1}}", [0, 0, 0, 0, 0, 0]),
        ("{nearest: true}", [0, 1, 2, 3, 3, 3]),
        ("{failover: {us-east: eu}}", [0, 1, 2, 4, 3, 4]),
        ("{nearest: true, failover: {us-west: eu}}", [0, 1, 2, 3, 3, 3]),  # another region's rule
        ("{failover_priority: region}", [0, 0, 0, 1, 1, 1]),
        ("{failover_priority: [region, zone]}", [0, 0, 1, 2, 2, 2]),
        ("{failover_priority: [version=v1, region]}", [0, 2, 0, 1, 2, 2]),
        # The second condition counts only where the first holds.
        ("{failover_priority: [region, version=v1]}", [0, 1, 0, 2, 2, 2]),
    ],
)
def test_priorities(rules: str, expected: list[int]) -> None:
    assert priorities(rules) == expected


def test_seen_from_elsewhere() -> None:
    assert priorities("{nearest: true}", "locality: us-west/a") == [1, 1, 1, 0, 1, 1]
    assert priorities("{nearest: true}", "locality: mars") == [0] * 6, "all are equally far"


def test_a_router_that_does_not_know_its_place_derives_nothing() -> None:
    assert priorities("{nearest: true}", 'locality: "${NOWHERE:-}"') == [0] * 6


def test_an_endpoints_own_priority_comes_first() -> None:
    text = TEXT.replace("TOP", HERE).replace("RULES", "{nearest: true}")
    text = text.replace('"10.0.0.1:80", ', '"10.0.0.1:80", priority: 7, ')
    endpoints = build(loads(text, "w", {}), 1).clusters["c"].endpoints
    assert [endpoint.priority for endpoint in endpoints] == [3, 0, 1, 2, 2, 2]


def test_without_rules_priorities_stay_as_they_are_written() -> None:
    text = TEXT.replace("TOP", HERE).replace("RULES", "off")
    text = text.replace('"10.0.0.1:80", ', '"10.0.0.1:80", priority: 7, ')
    endpoints = build(loads(text, "w", {}), 1).clusters["c"].endpoints
    assert [endpoint.priority for endpoint in endpoints] == [7, 0, 0, 0, 0, 0]


def test_places_in_one_text_or_in_parts() -> None:
    places = [str(endpoint.locality) for endpoint in cluster("off").endpoints]
    assert places[:3] == ["us-east/b/rack1", "us-east/b/rack2", "us-east/c"]
    assert places[5] == ""
    assert cluster("{weights: {us-east/b: 3, eu: 1}}").locality_weights == (
        ("us-east/b", 3),
        ("eu", 1),
    )
