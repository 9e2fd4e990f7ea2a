"""Explanations of what routes change and answer."""

import random
from typing import Any

import msgspec
from click.testing import CliRunner

from router.cli.main import main
from router.config.build import build
from router.config.load import loads
from router.core.explain import explain
from router.core.explanation import Description, Explanation
from router.proxy.describe import describe

TEXT = """\
version: 1
aliases: {gpt-4o: llama}
sizes: {small: {prompt_tokens: {max: 100}}, large: {}}
clusters:
  - name: c
    endpoints: ["10.0.0.1:8000"]
    adapters: {sql: llama}
routes:
  - name: old
    match: {path: {prefix: /old}}
    redirect: {prefix: /v1, status: 308}
  - {name: pot, match: {path: /pot}, direct_response: {status: 418, body: teapot}}
  - {name: high, match: {priority: high, tenant: team-a}, to: c}
  - {name: asked, match: {query: {v: "2"}}, to: c}
  - {name: sql, match: {adapter: "sql*"}, to: c}
  - name: large
    match: {model: llama, size: large}
    to: c
  - name: rest
    match: {model: llama}
    to: {cluster: c, headers: {request: {set: {x-host: "%UPSTREAM_HOST%"}}}}
    rewrite: {regex: {pattern: ^/v1, substitution: /v2}, host: internal}
    headers: {request: {remove: x-drop}, response: {remove: server, add: {x-route: "%ROUTE_NAME%"}}}
"""


def ask(**words: Any) -> Explanation:
    snapshot = build(loads(TEXT, "t.yaml", {}), 1)
    description = Description(**words)
    return explain(snapshot, describe(description, snapshot), random.Random(1))


def test_what_is_sent_instead() -> None:
    told = ask(model="gpt-4o", headers=(("x-drop", "1"),))
    assert told.route == "rest" and told.request is not None
    assert (told.request.model, told.request.alias) == ("llama", "gpt-4o")
    changes = told.changes
    assert changes is not None
    assert (changes.path, changes.host, changes.model) == (
        "/v2/chat/completions",
        "internal",
        "llama",
    )
    assert "- x-drop: 1" in changes.request
    assert "+ x-host: 10.0.0.1:8000" in changes.request
    assert changes.response == ("- server", "+ x-route: rest")
    assert ask(model="llama", tenant="team-a", priority="high").changes is None


def test_an_answer_without_an_engine() -> None:
    told = ask(path="/old/x?a=b")
    assert told.answer is not None and told.error is None and told.attempts == ()
    assert told.answer.status == 308
    assert told.answer.headers == ("location: http://localhost/v1/x?a=b",)
    pot = ask(path="/pot").answer
    assert pot is not None and (pot.status, pot.body) == (418, "teapot")


def test_why_the_other_routes_did_not_match() -> None:
    told = ask(model="llama", max_tokens=9, tenant="team-b")
    failed = {route.name: route.failed for route in told.routes}
    assert failed["high"] == ("tenant: wants exact 'team-a', has 'team-b'",)
    assert failed["asked"] == ("query v: wants exact '2', has none",)
    assert failed["sql"] == ("adapter: wants 'sql*', has none",)
    [words] = failed["large"]
    assert words.startswith("size: wants large, is small (about ")
    assert failed["rest"] == ()


def test_the_command_shows_it(tmp_path: Any) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(TEXT)

    def shown(*args: str) -> str:
        return CliRunner().invoke(main, ["explain", "-c", str(path), *args]).output

    output = shown("--model", "gpt-4o", "--max-tokens", "9")
    for line in ("alias=gpt-4o", "sent       model llama", "response   + x-route: rest"):
        assert line in output, output
    assert "answer     308, location: http://localhost/v1/x" in shown("--path", "/old/x")
    assert msgspec.to_builtins(ask(path="/pot"))["answer"]["status"] == 418
