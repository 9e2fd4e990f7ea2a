"""Conditions as they are written, and what the core makes of a request by them."""

import random

import pytest

from router.config.build import build
from router.config.findings import ConfigError
from router.config.load import loads
from router.core.model import LlmRequest, Priority

TEXT = """\
version: 1
sizes:
  small: {prompt_tokens: {max: 1000}, max_tokens: {max: 256}}
  large: {}
clusters:
  - name: c
    endpoints: ["10.0.0.1:8000"]
    models: llama
    adapters: {sql: llama, poet: llama}
routes:
  - {name: tenant, match: {tenant: {prefix: team-}, priority: [high, low]}, to: c}
  - {name: query, match: {query: {v: "2", debug: {present: false}}}, to: c}
  - {name: range, match: {headers: {X-N: {range: {start: 5, end: 10}}}}, to: c}
  - {name: case, match: {path: {prefix: /V1/UP, ignore_case: true}}, to: c}
  - {name: never, match: {fraction: 0%}, to: c}
  - {name: inline, match: {max_tokens: {min: 5000, max: 6000}, fraction: {percent: 100%, by: request}}, to: c}
  - {name: poet, match: {adapter: poet}, to: c}
  - {name: base, match: {model: llama, adapter: {present: false}, size: small}, to: c}
  - {name: rest, match: {model: llama}, to: c}
"""  # noqa: E501


def ask(**fields: object) -> str | None:
    table = build(loads(TEXT, "t.yaml", {}), 1).routes
    words: dict[str, object] = {"id": "r", "method": "POST", "path": "/x", "model": "llama"}
    route = table.match(LlmRequest(**(words | fields)), random.Random(1))  # type: ignore[arg-type]
    return None if route is None else route.name


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        ({"tenant": "team-a", "priority": Priority.HIGH}, "tenant"),
        ({"tenant": "team-a"}, "rest"),
        ({"target": b"/x?v=2"}, "query"),
        ({"target": b"/x?v=2&debug"}, "rest"),
        ({"headers": ((b"x-n", b"5"),)}, "range"),
        ({"path": "/v1/upload"}, "case"),
        ({"max_tokens": 5000}, "inline"),
        ({"model": "poet"}, "poet"),
        ({"model": "sql"}, "rest"),
        ({"max_tokens": 9}, "base"),
        ({"max_tokens": 9, "body_bytes": 4001}, "rest"),
        ({"model": "other"}, None),
    ],
)
def test_written_conditions(fields: dict[str, object], route: str | None) -> None:
    assert ask(**fields) == route


def test_sizes_follow_the_bytes_that_a_token_is_taken_to_have() -> None:
    text = TEXT.replace("version: 1", "version: 1\ntoken_estimates: {bytes_per_token: 2}")
    table = build(loads(text, "t.yaml", {}), 1).routes
    asked = LlmRequest(
        id="r", method="POST", path="/x", model="llama", max_tokens=9, body_bytes=2001
    )
    route = table.match(asked, random.Random(1))
    assert route is not None and route.name == "rest"  # 1001 tokens: not small


def test_adapters_are_listed_as_models() -> None:
    assert build(loads(TEXT, "t.yaml", {}), 1).models() == ("llama", "sql", "poet")


def test_an_adapter_has_one_base_model() -> None:
    second = '  - {name: d, endpoints: ["10.0.0.2:80"], adapters: {sql: qwen}}\nroutes:'
    with pytest.raises(ConfigError, match="adapter 'sql' belongs to 'llama' in cluster 'c'"):
        loads(TEXT.replace("routes:", second), "t.yaml", {})
