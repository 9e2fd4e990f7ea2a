# ruff: noqa: E501
"""The ready policies, and the commands that check and test policies."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from router.cli.main import main
from router.config import routetest
from tests.config.texts import MINIMAL

POLICIES = Path(__file__).parents[2] / "policies"
READY = sorted(p for p in POLICIES.glob("*.yaml") if not p.name.endswith(".test.yaml"))


def warmpath(*args: str | Path, **env: str) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(MINIMAL)
    return path


def cases(policy: Path, text: str) -> Path:
    path = policy.with_name("mine.test.yaml")
    path.write_text(text)
    return path


# --- what is shipped ------------------------------------------------------------------------


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_ready_policy(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=./schema.json\n")
    assert "Choose this" in text, "says when to use it"
    assert warmpath("validate", "--strict", path).exit_code == 0
    result = warmpath("test", path, "-o", "json")
    [report] = json.loads(result.output)["policies"]
    assert result.exit_code == 0, report
    assert report["cases"] and report["routes_untested"] == []


def test_the_folder_at_once() -> None:
    assert {"round-robin", "least-request", "prefix-affinity"} <= {path.stem for path in READY}
    result = warmpath("test", POLICIES)
    assert result.exit_code == 0
    assert result.output.count("routes tested") == len(READY)
    assert warmpath("validate", *POLICIES.glob("*.yaml")).exit_code == 0


# --- warmpath validate ----------------------------------------------------------------------


def test_validate_says_what_is_there(policy: Path) -> None:
    result = warmpath("validate", policy)
    assert result.output == f"{policy}: ok, 1 cluster, 1 endpoint, 1 route\n"
    assert result.exit_code == 0


def test_validate_tells_findings_of_all_files(policy: Path, tmp_path: Path) -> None:
    policy.write_text(MINIMAL.replace("to: chat", "to: chart"))
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\nroute: []\n")
    result = warmpath("validate", policy, other)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{policy}:7:9: no cluster is named 'chart' (did you mean 'chat'?)",
        f"{other}:1:1: missing field 'clusters'",
        f"{other}:1:1: missing field 'routes'",
        f"{other}:2:1: unknown field 'route' (did you mean 'routes'?)",
    ]
    report = json.loads(warmpath("validate", "-o", "json", policy).output)
    assert report == {
        "ok": False,
        "findings": [
            {
                "file": str(policy),
                "line": 7,
                "column": 9,
                "path": "routes[0].to[0].cluster",
                "message": "no cluster is named 'chart'",
                "suggestion": "chat",
            }
        ],
        "advice": [],
    }
    assert json.loads(warmpath("validate", "-o", "json", POLICIES / "canary.yaml").output) == {
        "ok": True,
        "findings": [],
        "advice": [],
    }


def test_validate_reads_the_environment(policy: Path) -> None:
    policy.write_text(MINIMAL.replace("10.0.0.1:8000", "'${ENGINE}:8000'"))
    assert warmpath("validate", policy).exit_code == 1
    assert warmpath("validate", policy, ENGINE="engine-0").exit_code == 0


def test_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for args in (
        ["validate"],
        ["validate", "gone.yaml"],
        ["validate", "-o", "xml", "."],
        ["test"],
        ["test", "."],
        ["schema", "--format", "xml"],
    ):
        result = warmpath(*args)
        assert result.exit_code == 2, args
        assert "Error: " in result.output


# --- warmpath test --------------------------------------------------------------------------

FAILING = [
    ("{route: all, endpoint: '10.0.0.1:8000'}", "a route that takes all", None),
    ("{status: 404}", "", "status: expected 404, got none"),
    ("{subset: {version: v1}}", "", "subset: expected {version: v1}, got {} x2"),
    ("{shares: {chat: 50%}}", "", "share of chat: expected 50%, got 100.0%"),
]


@pytest.mark.parametrize(("expect", "_", "failure"), FAILING)
def test_a_case_fails_with_the_difference(
    policy: Path, expect: str, _: str, failure: str | None
) -> None:
    cases(policy, f"cases: [{{name: it, times: 2, expect: {expect}}}]")
    result = warmpath("test", policy, "-o", "json")
    [report] = json.loads(result.output)["policies"]
    assert report["cases"] == [{"name": "it", "failures": [failure] if failure else []}]
    assert result.exit_code == (1 if failure else 0)
    shown = warmpath("test", policy).output
    assert ("FAIL" in shown) is bool(failure)


ACTIONS = """\
version: 1
aliases: {gpt: m}
clusters: [{name: chat, endpoints: ["10.0.0.1:8000"]}]
routes:
  - {name: old, match: {path: {prefix: /old}}, redirect: {prefix: /v1, status: 308}}
  - {name: all, to: chat, rewrite: {regex: {pattern: ^/v1, substitution: /v2}, host: inside}}
"""
ACTION_CASES = """\
cases:
  - {name: a, request: {path: "/old/x?q"}, expect: {route: old, status: 308, location: "http://localhost/v1/x?q"}}
  - {name: b, request: {model: gpt, path: "/v1/x?q"}, expect: {route: all, sent: {model: m, path: "/v2/x?q", host: inside}}}
  - {name: c, request: {path: "/old/x?q"}, expect: {location: /v1/x, status: 308}}
  - {name: d, request: {model: gpt}, expect: {sent: {model: gpt}}}
"""


def test_cases_see_what_routes_change_and_answer(policy: Path) -> None:
    policy.write_text(ACTIONS)
    cases(policy, ACTION_CASES)
    [report] = json.loads(warmpath("test", policy, "-o", "json").output)["policies"]
    assert [case["failures"] for case in report["cases"]] == [
        [],
        [],
        ["location: expected /v1/x, got http://localhost/v1/x?q x1"],
        ["sent model: expected gpt, got m x1"],
    ]
    assert report["routes_untested"] == []


def test_a_refused_request_fails_where_an_endpoint_was_expected(policy: Path) -> None:
    policy.write_text(MINIMAL.replace("to: chat", "match: {model: a}\n    to: chat"))
    cases(policy, "cases: [{name: it, request: {model: b}, expect: {route: all}}]")
    [report] = json.loads(warmpath("test", policy, "-o", "json").output)["policies"]
    assert report["cases"][0]["failures"] == [
        "route: expected all, got none",
        "not sent to an endpoint: 404 x1",
    ]
    assert report["routes_untested"] == ["all"]
    assert "no case takes: all" in warmpath("test", policy).output


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("cases: []", "1:8: at least 1 is needed here"),
        ("cases: [{name: a}]", "1:9: missing field 'expect'"),
        ("cases:\n  - {name: a, expect: {rout: x}}", "2:24: unknown field 'rout' (did you mean 'route'?)"),
        ("cases:\n  - {name: a, expect: {route: al}}", "2:5: the policy has no route 'al' (did you mean 'all'?)"),
        ("cases:\n  - {name: a, down: 10.0.0.2:8000, expect: {}}", "2:5: the policy has no endpoint '10.0.0.2:8000' (did you mean '10.0.0.1:8000'?)"),
        ("cases:\n  - {name: a, expect: {status: 404, shares: {chat: 1%}}}", "2:5: a refused request goes to no endpoint: status alone"),
    ],
)  # fmt: skip
def test_tests_that_are_wrong_themselves(policy: Path, text: str, finding: str) -> None:
    tests = cases(policy, text)
    for command in ("test", "validate"):
        result = warmpath(command, tests)
        assert result.exit_code == 1
        assert result.output.strip() == f"{tests}:{finding}"


def test_a_policy_without_tests_is_wrong_usage(policy: Path) -> None:
    result = warmpath("test", policy)
    assert result.exit_code == 2
    assert "mine.test.yaml does not exist" in result.output


# --- warmpath schema ------------------------------------------------------------------------


def test_schema_prints_or_writes(tmp_path: Path) -> None:
    printed = warmpath("schema").output
    assert json.loads(printed)["title"] == "Warmpath"
    assert warmpath("schema", "--out", tmp_path / "s.json").output == ""
    assert (tmp_path / "s.json").read_text() == printed
    assert warmpath("schema", "--format", "markdown").output.startswith("# Configuration\n")


def test_a_case_has_a_prompt_of_its_session() -> None:
    """For balancers that look at prompts: named as one of that length would be."""
    one, again, other, long = (
        routetest.prompt_of(routetest.CaseRequest(model="m", session=session, prompt_tokens=tokens))
        for session, tokens in (("a", 700), ("a", 900), ("b", 700), ("a", None))
    )
    assert [size for _, size in (one, again, other, long)] == [2800, 3600, 2800, 2048]
    assert one[0] == again[0][:5]
    assert not set(one[0]) & set(other[0])
    assert len(long[0]) == 4
