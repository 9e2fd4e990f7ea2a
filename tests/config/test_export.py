"""The schema and the reference say what the code does, and the committed copies are fresh."""

import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from router.config import export, reference
from router.config.check import hints, is_struct
from router.config.document import read
from router.config.findings import ConfigError
from router.config.load import loads
from router.config.schema import Config, redacted_value
from router.core import balancers
from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from tests.config.faults import FAULTS
from tests.config.texts import ENV, FULL, MINIMAL

ROOT = Path(__file__).parents[2]
SCHEMA = export.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_committed_schema_is_fresh() -> None:
    committed = (ROOT / "policies/schema.json").read_text()
    assert committed == export.render(), "run: warmpath schema --out policies/schema.json"


def test_the_committed_reference_is_fresh() -> None:
    committed = (ROOT / "docs/configuration.md").read_text()
    command = "warmpath schema --format markdown --out docs/configuration.md"
    assert committed == reference.render(), f"run: {command}"


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_the_schema_takes_what_the_loader_takes(text: str) -> None:
    # As an editor sees it, which knows no variables.
    VALIDATOR.validate(read({"w.yaml": text}, {"ADMIN_TOKEN": "${ADMIN_TOKEN}"}).data)
    loads(text, "w.yaml", ENV)


# What JSON Schema cannot say: names that must exist or differ, and variables.
BEYOND = ("no cluster", "no endpoint", "duplicate", "taken", "token", "not a regular", "together")
BEYOND += (
    "longer",
    "needed too",
    "at least 1s",
    "no condition",
    "no status",
    "stale",
    "range",
    "port",
    "header name",
    "not set",
    "${",
)
BEYOND += (
    "not YAML",
    "in quotes:",
    "merge keys",
    "tags are",
    "a field name",
    "1ms",
    "at most 100%",
    "must be above",
    "must not be below",
    "no meaning",
    "a salt has",
    "never logged",
    "write json, envoy",
    "nothing looks at it",
    "when is an answer slow",
    "must lie between",
    "needs retries and",
    "needs a timeouts.total",
    "at least base_interval",
    "no header is given",
    "no number",
    "sizes`",
    "no size is",
    "give either",
    "an adapter itself",
    "not both",
    "the part above",
    "where it runs",
    "goes nowhere",
    "changes nothing",
    "no body",
    "needs a prefix",
    "no group",
    "means nothing",
    "rewrite.host",
    "own to write",
    "is not known",
    "compared as a text",
    "an alias itself",
)
BEYOND += ("no fault", "could stall", "no limit:", "of one tenant", "no shares", "at least 500ms")
BEYOND += (
    "at least 50ms",
    "burst goes",
    "can have debt",
    "give a rate",
    "kept in Redis",
    "rate and",
    "cannot be held",
    "hashed at",
    "given twice",
    "needs a weight",
    "and scrape is off",
    "does not tell",
    "what caches hold",
    "or a discovery",
    "not an IPv4",
    "a listener at",
)


@pytest.mark.parametrize(
    ("old", "new", "finding"), [f for f in FAULTS if not any(word in f[2] for word in BEYOND)]
)
def test_the_schema_refuses_what_the_loader_refuses(old: str, new: str, finding: str) -> None:
    data = yaml.safe_load(MINIMAL.replace(old, new))
    with pytest.raises(ConfigError):
        loads(MINIMAL.replace(old, new), "w.yaml", {})
    assert not VALIDATOR.is_valid(data), finding


def structs() -> list[Any]:
    return [struct for struct, _ in reference._sections(Config, "", [])]


@pytest.mark.parametrize("struct", structs(), ids=export.section_name)
def test_every_field_is_in_the_schema_and_described(struct: Any) -> None:
    assert export.summary(struct)
    properties = SCHEMA["$defs"][export.section_name(struct)]["properties"]
    text = reference.render()
    for field in msgspec.structs.fields(struct):
        assert field.name in properties
        assert f"| `{field.name}` |" in text
        obvious = ("exact", "prefix", "suffix", "contains")
        assert properties[field.name].get("description") or field.name in obvious, field.name


def test_every_balancer_is_registered() -> None:
    found = set()
    for module_info in pkgutil.iter_modules(balancers.__path__):
        module = importlib.import_module(f"router.core.balancers.{module_info.name}")
        for name, value in vars(module).items():
            spec = getattr(value, "Spec", None)
            if isinstance(value, type) and value.__module__ == module.__name__ and is_struct(spec):
                assert issubclass(spec, BalancerSpec), name
                found.add(value)
    assert found == set(REGISTRY)
    tags = {balancer.Spec.__struct_config__.tag for balancer in REGISTRY}
    assert len(tags) == len(REGISTRY)
    assert tags <= set(SCHEMA["$defs"])


@pytest.mark.parametrize("balancer", REGISTRY, ids=lambda balancer: balancer.__name__)
def test_every_balancer_can_be_written_in_full(balancer: Any) -> None:
    spec = balancer.Spec()
    plain = redacted_value(spec)
    assert set(hints(balancer.Spec)) == set(plain) - {"type"}
    text = MINIMAL.replace("[10.0.0.1:8000]", f"[10.0.0.1:8000]\n    balancer: {json.dumps(plain)}")
    assert loads(text, "w.yaml", {}).clusters[0].balancer == spec
