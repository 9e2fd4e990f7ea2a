"""Manifests for Istio and Kubernetes, held against the real schemas and against each other."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import (
    Manifest,
    core_problems,
    custom_resource_problems,
    manifests,
)

ROOT = Path(__file__).resolve().parent.parent.parent
ISTIO = list(manifests(*sorted((ROOT / "istio").glob("*.yaml"))))


@pytest.mark.parametrize("manifest", [m for _, m in ISTIO], ids=[label for label, _ in ISTIO])
def test_istio_objects_fit_their_crd(manifest: Manifest) -> None:
    assert custom_resource_problems(manifest) == []


def test_the_schemas_refuse_what_istio_would_ignore() -> None:
    broken = deepcopy(by_kind("VirtualService"))
    broken["spec"]["http"][0]["timeOut"] = "5s"
    broken["spec"]["http"][0]["retries"] = {"attempts": "none"}
    problems = "\n".join(custom_resource_problems(broken))
    assert "timeOut" in problems
    assert "retries.attempts" in problems


def test_the_schemas_refuse_what_kubernetes_would_ignore() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    assert core_problems({**service, "spec": {"ports": [{"port": 80}]}}) == []
    assert core_problems({**service, "spec": {"port": 80}}) == [
        "$.spec.port: no such field in V1ServiceSpec"
    ]
    assert core_problems({**service, "spec": {"ports": [{"port": "80"}]}}) == [
        "$.spec.ports[0].port: '80' is not a int"
    ]


def by_kind(kind: str, name: str = "warmpath") -> Any:
    return next(m for _, m in ISTIO if m["kind"] == kind and m["metadata"]["name"] == name)


def test_the_mesh_repeats_and_times_out_nothing() -> None:
    for route in by_kind("VirtualService")["spec"]["http"]:
        assert route["timeout"] == "0s"
        assert route["retries"]["attempts"] == 0


def test_gateway_hosts_reach_the_router() -> None:
    hosts = {h for s in by_kind("Gateway")["spec"]["servers"] for h in s["hosts"]}
    service = by_kind("VirtualService")["spec"]
    assert hosts <= set(service["hosts"])
    assert by_kind("Gateway")["metadata"]["name"] in service["gateways"]
    destinations = {r["destination"]["host"] for h in service["http"] for r in h["route"]}
    assert destinations == {by_kind("DestinationRule")["spec"]["host"]}
