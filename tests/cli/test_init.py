"""The configuration that ``warmpath init`` writes, from engines that answer and from none."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.emulator.config import EmulatorConfig
from engine.emulator.server import Emulator
from router.cli.init import Found, ask, compose
from router.cli.main import main
from router.config.lint import lint_texts
from router.config.load import loads
from tests.control.test_dialects import LLAMACPP, Engine

LISTING = json.dumps(
    {"data": [{"id": "org/base-7b", "parent": None}, {"id": "sql", "parent": "org/base-7b"}]}
).encode()


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def test_examples_stand_where_no_engine_is_named(tmp_path: Path) -> None:
    path = tmp_path / "warmpath.yaml"
    result = init(str(path))
    assert result.exit_code == 0, result.output
    [cluster] = loads(path.read_text(), "w").clusters
    assert [str(endpoint.address) for endpoint in cluster.endpoints] == [
        "localhost:8000",
        "localhost:8001",
    ]
    before = path.read_text()
    again = init(str(path), "--backend", "other:8000", "--offline")
    assert again.exit_code == 1
    assert "--force" in again.output
    assert path.read_text() == before
    assert init(str(path), "--backend", "other:8000", "--offline", "--force").exit_code == 0
    assert "other:8000" in path.read_text()


async def test_engines_that_serve_the_same_are_one_cluster(tmp_path: Path) -> None:
    small = EmulatorConfig(models=("org/llama-8b", "bge"))
    async with (
        Emulator(small) as a,
        Emulator(EmulatorConfig(models=("bge", "org/llama-8b"))) as b,
        Emulator(EmulatorConfig(models=("big", "bge"))) as c,
    ):
        backends = [f"--backend=http://{one.address}" for one in (a, b, c)]
        gone = "--backend=127.0.0.1:9"
        result = await asyncio.to_thread(init, "-", *backends, gone)
        assert result.exit_code == 0, result.output
        config = loads(result.stdout, "w")
        found = {
            cluster.name: [str(endpoint.address) for endpoint in cluster.endpoints]
            for cluster in config.clusters
        }
        assert found == {"llama-8b": [a.address, b.address], "big": [c.address]}
    routes = {route.match.model: [arm.cluster for arm in route.to] for route in config.routes}
    assert routes == {"org/llama-8b": ["llama-8b"], "bge": ["llama-8b", "big"], "big": ["big"]}
    assert {cluster.engine for cluster in config.clusters} == {"vllm"}
    assert '"127.0.0.1:9"' not in result.stdout
    assert "left out: 127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (
            {"/v1/models": LISTING, "/metrics": LLAMACPP},
            {
                "engine": "llamacpp",
                "models": ("org/base-7b",),
                "adapters": (("sql", "org/base-7b"),),
            },
        ),
        (
            {"/v1/models": b'{"data": [{"id": "m"}]}', "/api/version": b'{"version": "0.12"}'},
            {"engine": "ollama", "models": ("m",)},
        ),
        ({"/metrics": b"up 1\n", "/v1/models": b"<html>"}, {}),
    ],
    ids=["llamacpp with an adapter", "ollama", "something else"],
)
async def test_what_an_engine_is(pages: dict[str, bytes], expected: dict[str, object]) -> None:
    async with Engine(pages) as address:
        found = await asyncio.to_thread(ask, address)
    assert found == Found(address=address, **expected)  # type: ignore[arg-type]


def test_whatever_is_found_makes_a_configuration_without_warnings() -> None:
    text = compose(
        [
            Found(address="a:1", engine="vllm", models=("x/m", "y/m"), adapters=(("sql", "x/m"),)),
            Found(address="b:1", engine="sglang", models=("on", "1.5", 'a "name"')),
            Found(address="c:1", engine="ollama", models=("ä",)),
            Found(address="d:1"),
            Found(address="e:1", engine="vllm"),
        ]
    )
    config = loads(text, "w")
    assert [cluster.name for cluster in config.clusters] == [
        *("m", "on", "model", "engines", "engines-2"),
    ]
    last = config.routes[-1]
    assert last.match.model is None
    assert [arm.cluster for arm in last.to] == ["engines", "engines-2"]
    assert len({route.name for route in config.routes}) == len(config.routes) == 7
    assert config.clusters[0].adapters == {"sql": "x/m"}
    assert config.clusters[3].scrape is None
    assert [one for one in lint_texts({"w": text}, {}) if one.severity != "info"] == []


def test_wrong_usage() -> None:
    assert init("-", "--backend", "ftp://x:1").exit_code == 2
    assert init("-", "--backend", "127.0.0.1:9").exit_code == 1
