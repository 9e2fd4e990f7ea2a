"""docker-compose.yml and the Dockerfile, read as compose would: what they mention exists, and each
command line is one that our commands accept."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from router.cli.main import main as warmpath
from router.config.build import build
from router.config.load import loads

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
OURS = [name for name, service in SERVICES.items() if "build" in service]
ROUTERS = [name for name in OURS if SERVICES[name]["build"]["target"] == "router"]


def stages() -> dict[str, str]:
    """Stage name -> its instructions."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def exec_form(stage: str, instruction: str) -> list[str]:
    found = re.search(rf"^{instruction} (\[.*\])$", stages()[stage], re.MULTILINE)
    assert found, f"{stage} has no {instruction} in exec form"
    words: list[str] = yaml.safe_load(found[1])
    return words


@pytest.mark.tool
@pytest.mark.parametrize("profiles", [(), ("real",), ("edge",), ("real", "edge")], ids=str)
def test_compose_accepts_the_file(tool: Callable[..., str], profiles: tuple[str, ...]) -> None:
    arguments = [word for profile in profiles for word in ("--profile", profile)]
    result = subprocess.run(
        [tool("docker-compose"), *arguments, "-f", "docker-compose.yml", "config", "--services"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    wanted = {n for n, s in SERVICES.items() if set(s.get("profiles", profiles)) <= set(profiles)}
    assert wanted <= set(result.stdout.split())


def test_dependencies_exist_and_share_their_profile() -> None:
    for name, service in SERVICES.items():
        for other in service.get("depends_on", ()):
            assert other in SERVICES, f"{name} depends on {other}"
            # A dependency of another profile would not be started with this service.
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))
            if isinstance(service["depends_on"], dict):
                condition = service["depends_on"][other]["condition"]
                assert condition != "service_healthy" or "healthcheck" in SERVICES[other]


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":")
            assert (ROOT / source).exists(), source
            assert mode == "ro"


def test_ports_are_on_loopback_and_distinct() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)
    hosts = [port.rsplit(":", 1)[0] for port in published]
    assert len(hosts) == len(set(hosts))


def test_the_images_entry_points_are_our_commands() -> None:
    assert exec_form("router", "ENTRYPOINT") == ["warmpath"]
    assert exec_form("emulator", "ENTRYPOINT") == ["warmpath-engine", "emulate"]
    assert exec_form("engine", "ENTRYPOINT") == ["warmpath-engine", "serve"]


def test_the_dockerfile_copies_what_exists() -> None:
    sources = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for source in " ".join(sources).split():
        assert (ROOT / source).exists(), source
    for stage in ("router", "emulator", "engine"):
        assert f"FROM runtime AS {stage}" in DOCKERFILE
    assert "USER 65532" in stages()["runtime"]


def test_a_router_in_an_image_has_what_a_configuration_may_ask_for() -> None:
    """Every extra without which ``warmpath validate`` refuses a field."""
    sources = (path.read_text() for path in (ROOT / "router/config").rglob("*.py"))
    wanted = {extra for text in sources for extra in re.findall(r"warmpath\[([a-z0-9-]+)\]", text)}
    assert "redis" in wanted
    for stage in ("build", "build-engine"):
        [extras] = re.findall(r"'\.\[(.*)\]'", stages()[stage])
        assert wanted <= set(extras.split(",")), stage


def parsed(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    """The command's own reading of these arguments, without running it."""
    with command.make_context("command", list(arguments)) as context:
        return dict(context.params)


def engine_command(stage: str) -> click.Command:
    from engine.cli import main as warmpath_engine

    name = exec_form(stage, "ENTRYPOINT")[1]
    command = warmpath_engine.get_command(click.Context(warmpath_engine), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", OURS)
def test_commands_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    stage = service["build"]["target"]
    words = service["command"]
    if stage == "router":
        serve = warmpath.get_command(click.Context(warmpath), words[0])
        assert serve is not None
        # The path is the container's: that it is mounted is another test's business.
        local = service["volumes"][0].split(":")[0]
        parameters = parsed(serve, [words[1], str(ROOT / local)])
        assert local.removeprefix("./") in str(parameters["config"])
    else:
        parameters = parsed(engine_command(stage), words)
        assert (parameters["host"], parameters["port"]) == ("0.0.0.0", 8000)


@pytest.mark.parametrize("name", ROUTERS)
def test_router_configurations_fit_the_services(name: str) -> None:
    service = SERVICES[name]
    source, target, _ = service["volumes"][0].split(":")
    assert service["command"][-1] == target
    environment = dict.fromkeys(service["environment"], "secret")
    config = loads((ROOT / source).read_text(), source, environment)
    snapshot = build(config, 1)
    hosts = {(endpoint.host, endpoint.port) for endpoint in snapshot.endpoints()}
    assert hosts == {(host, 8000) for host in service["depends_on"]}
    assert config.admin is not None
    assert config.admin.token is not None
    published = {int(port.rsplit(":", 1)[1]) for port in service["ports"]}
    assert published == {config.listeners[0].address.port, config.admin.address.port}
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > float(config.drain.min_drain) + float(config.drain.timeout)


def test_models_of_routes_are_those_that_engines_serve() -> None:
    for name in ROUTERS:
        source = SERVICES[name]["volumes"][0].split(":")[0]
        config = loads((ROOT / source).read_text(), source, {"WARMPATH_ADMIN_TOKEN": "x"})
        for engine in SERVICES[name]["depends_on"]:
            words = SERVICES[engine]["command"]
            if "--served-model-name" in words:
                served = words[words.index("--served-model-name") + 1]
            else:
                from engine.server.command import BUNDLED_NAME

                served = BUNDLED_NAME
            assert {route.match.model for route in config.routes} == {served}


def test_prometheus_looks_for_services_that_exist() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    names = {
        name
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert names == set(OURS)


def test_grafana_finds_its_boards() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    provider = yaml.safe_load((folder / "dashboards/warmpath.yaml").read_text())["providers"][0]
    targets = {
        volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]
    }
    boards = ROOT / targets[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (boards / Path(home).name).exists()
    source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"][0]
    host, port = source["url"].removeprefix("http://").split(":")
    assert SERVICES[host]["ports"][0].endswith(f":{port}")
