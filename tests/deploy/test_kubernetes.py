"""The Kubernetes manifests: valid for the API server, consistent with each other and with the
configuration that they carry."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.build import build
from router.config.discovery import DnsDiscovery
from router.config.load import loads
from tests.deploy.manifests import core_problems, custom_resource_problems, manifests
from tests.deploy.test_compose import engine_command, parsed

ROOT = Path(__file__).resolve().parent.parent.parent
ALL = list(manifests(*sorted((ROOT / "deploy/k8s").glob("*.yaml"))))


def find(kind: str, name: str) -> dict[str, Any]:
    return next(m for _, m in ALL if m["kind"] == kind and m["metadata"]["name"] == name)


@pytest.mark.parametrize("manifest", [m for _, m in ALL], ids=[label for label, _ in ALL])
def test_objects_fit_their_schema(manifest: dict[str, Any]) -> None:
    custom = manifest["apiVersion"].startswith("monitoring.coreos.com/")
    problems = custom_resource_problems(manifest) if custom else core_problems(manifest)
    assert problems == []
    assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "warmpath"


def config_text() -> str:
    return str(find("ConfigMap", "warmpath")["data"]["router.yaml"])


def test_the_configuration_is_valid_and_finds_the_engines() -> None:
    config = loads(config_text(), "router.yaml", {})
    assert build(config, 1).clusters.keys() == {"llm"}
    engines = find("StatefulSet", "warmpath-engine")
    service = find("Service", engines["spec"]["serviceName"])
    assert service["spec"]["clusterIP"] == "None"
    discovery = config.clusters[0].discovery
    assert isinstance(discovery, DnsDiscovery)
    metadata = service["metadata"]
    assert discovery.name == f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
    container = engines["spec"]["template"]["spec"]["containers"][0]
    assert discovery.port == container["ports"][0]["containerPort"]


def test_routers_that_share_engines_hear_of_each_other() -> None:
    config = loads(config_text(), "router.yaml", {})
    routers, redis = find("Deployment", "warmpath"), find("Service", "warmpath-redis")
    assert config.redis is not None, "predicted_ttft needs to hear what other routers do"
    assert config.redis.machines == routers["spec"]["replicas"] > 1
    metadata = redis["metadata"]
    host = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
    assert str(config.redis.address) == f"{host}:{redis['spec']['ports'][0]['port']}"


def pod(kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = find(kind, name)["spec"]["template"]["spec"]
    return spec


def test_the_pod_may_live_as_long_as_its_drain() -> None:
    drain = loads(config_text(), "router.yaml", {}).drain
    grace = pod("Deployment", "warmpath")["terminationGracePeriodSeconds"]
    assert grace >= float(drain.min_drain) + float(drain.timeout) + 5


def test_ports_of_pods_are_those_of_the_configuration() -> None:
    config = loads(config_text(), "router.yaml", {})
    container = pod("Deployment", "warmpath")["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.metrics is not None
    assert ports == {
        "http-api": config.listeners[0].address.port,
        "http-metrics": config.metrics.address.port,
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http-metrics"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"][-1].startswith(mounts["config"])


@pytest.mark.parametrize(
    ("service", "kind", "workload"),
    [
        ("warmpath", "Deployment", "warmpath"),
        ("warmpath-engines", "StatefulSet", "warmpath-engine"),
        ("warmpath-redis", "Deployment", "warmpath-redis"),
    ],
)
def test_services_select_their_pods(service: str, kind: str, workload: str) -> None:
    template = find(kind, workload)["spec"]["template"]
    spec = find("Service", service)["spec"]
    assert spec["selector"].items() <= template["metadata"]["labels"].items()
    named = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in spec["ports"]} <= named
    selector = find(kind, workload)["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()


def test_istio_leads_to_these_services() -> None:
    istio = list(manifests(*sorted((ROOT / "istio").glob("*.yaml"))))
    for _, manifest in istio:
        if manifest["kind"] == "DestinationRule":
            name, namespace = manifest["spec"]["host"].split(".")[:2]
            assert find("Service", name)["metadata"]["namespace"] == namespace
    route = next(m for _, m in istio if m["kind"] == "VirtualService")["spec"]["http"][0]
    port = route["route"][0]["destination"]["port"]["number"]
    assert port in {p["port"] for p in find("Service", "warmpath")["spec"]["ports"]}


def test_the_engines_arguments_are_understood() -> None:
    spec = pod("StatefulSet", "warmpath-engine")
    parameters = parsed(engine_command("emulator"), spec["containers"][0]["args"])
    assert (parameters["host"], parameters["port"]) == ("0.0.0.0", 8000)
    assert parameters["shutdown_timeout"] < spec["terminationGracePeriodSeconds"]


def test_pods_run_with_the_least() -> None:
    for kind, name in (
        ("Deployment", "warmpath"),
        ("Deployment", "warmpath-redis"),
        ("StatefulSet", "warmpath-engine"),
    ):
        spec = pod(kind, name)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_monitors_give_the_job_names_that_alerts_use() -> None:
    rules = (ROOT / "deploy/prometheus/rules.yaml").read_text()
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    for name in ("warmpath", "warmpath-engines"):
        endpoint = find("PodMonitor", name)["spec"]["podMetricsEndpoints"][0]
        assert endpoint["relabelings"][0]["replacement"] in jobs
    assert 'up{job="warmpath"}' in rules
