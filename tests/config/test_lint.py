"""Lint: each rule finds what it is for, at its place, and lets the nearest good thing pass."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli.main import main
from router.config.lint import IGNORE, Advice, at_least, lint, lint_texts, reference
from router.config.lint_routes import OWN_PATHS
from router.config.lint_rules import RULES, SEVERITIES
from router.proxy.paths import Body, look_up
from tests.config.lint_examples import BASE, EXAMPLES

ROOT = Path(__file__).parents[2]
ENV = {"TOKEN": "open-sesame"}


def text(changes: list[tuple[str, str]]) -> str:
    written = BASE
    for part, other in changes:
        assert part in written, part
        written = written.replace(part, other, 1)
    return written


def advice(written: str) -> list[Advice]:
    return lint_texts({"w.yaml": written}, ENV)


# --- the rules --------------------------------------------------------------------------------


def test_the_base_gives_no_advice() -> None:
    assert advice(BASE) == []


@pytest.mark.parametrize(
    ("code", "changes", "place", "good"),
    EXAMPLES,
    ids=[f"{code}-{number}" for number, (code, *_) in enumerate(EXAMPLES)],
)
def test_a_rule(
    code: str, changes: list[tuple[str, str]], place: str, good: list[tuple[str, str]]
) -> None:
    [found] = [one for one in advice(text(changes)) if one.code == code]
    assert text(changes).splitlines()[found.line - 1][found.column - 1 :].startswith(place), found
    rule = next(rule for rule in RULES if rule.code == code)
    assert (found.severity, found.fix) == (rule.severity, rule.fix)
    assert [one for one in advice(text(good)) if one.code == code] == []


def test_every_rule_has_an_example() -> None:
    assert {code for code, *_ in EXAMPLES} == {rule.code for rule in RULES}


def test_codes_are_in_order_and_unique() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert all(re.fullmatch(r"WP\d{3}", code) for code in codes)
    assert all(rule.severity in SEVERITIES for rule in RULES)


def test_the_paths_of_the_router_itself() -> None:
    """What the rules know of the proxy's own answers is what the proxy does."""
    assert {look_up(path, b"GET") for path in OWN_PATHS} == {Body.MODELS, Body.HEALTH}


def test_the_page_lists_exactly_the_rules() -> None:
    page = (ROOT / "docs" / "lint.md").read_text()
    assert page == reference(), "run: warmpath validate --rules > docs/lint.md"
    headings = re.findall(r"^## (WP\d{3})$", page, re.MULTILINE)
    assert headings == [rule.code for rule in (IGNORE, *RULES)]


def test_the_ready_policies_give_no_warning() -> None:
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        if not path.name.endswith(".test.yaml"):
            assert at_least(lint(path), "warning") == [], path


# --- silence ------------------------------------------------------------------------------------

LIMIT = "limits: {max_buffered: 1KiB}"


@pytest.mark.parametrize(
    ("written", "codes"),
    [
        (f"{LIMIT}", ["WP027"]),
        (f"{LIMIT}  # warmpath: ignore WP027 bodies are small here", []),
        (f"# warmpath: ignore WP027 bodies are small here\n{LIMIT}", []),
        (f"# warmpath: ignore WP027 bodies are small\n# here\n\n{LIMIT}", []),
        (f"# warmpath: ignore WP027\n{LIMIT}", ["WP000", "WP027"]),
        (f"# warmpath: ignore WP026 for a reason\n{LIMIT}", ["WP000", "WP027"]),
        (f"# warmpath: ignore WP999 for a reason\n{LIMIT}", ["WP000", "WP027"]),
        (f"# warmpath: ignore WP027, WP026 for a reason\n{LIMIT}", ["WP000"]),
    ],
)
def test_an_ignore(written: str, codes: list[str]) -> None:
    found = advice(text([("version: 1", f"version: 1\n{written}")]))
    assert [one.code for one in found] == codes


def test_an_ignore_holds_in_its_own_file_alone() -> None:
    texts = {
        "a.yaml": "version: 1\n# warmpath: ignore WP027 elsewhere\n",
        "b.yaml": BASE + LIMIT + "\n",
    }
    assert {(one.file, one.code) for one in lint_texts(texts, ENV)} == {
        ("a.yaml", "WP000"),
        ("b.yaml", "WP027"),
    }


# --- the command --------------------------------------------------------------------------------

WARNED = [("version: 1", f"version: 1\n{LIMIT}")]
WRONG = [("model: a", "path: v1/chat")]
NOTED = [("to: chat", "to: {cluster: chat, weight: 9}")]


def validate(folder: Path, changes: list[tuple[str, str]], *arguments: str) -> Result:
    path = folder / "w.yaml"
    path.write_text(text(changes))
    return CliRunner().invoke(main, ["validate", str(path), *arguments], env=ENV)


@pytest.mark.parametrize(
    ("changes", "arguments", "status", "shown"),
    [
        (WARNED, [], 0, ["WP027"]),
        (WARNED, ["--strict"], 1, ["WP027"]),
        (WARNED, ["--level", "error"], 0, []),
        (WRONG, [], 1, ["WP002"]),
        (NOTED, ["--strict"], 0, []),
        (NOTED, ["--strict", "--level", "info"], 0, ["WP009"]),
    ],
)
def test_severity_and_level(
    tmp_path: Path,
    changes: list[tuple[str, str]],
    arguments: list[str],
    status: int,
    shown: list[str],
) -> None:
    result = validate(tmp_path, changes, *arguments)
    assert result.exit_code == status, result.output
    assert re.findall(r"(WP\d{3}):", result.output) == shown
    plain = json.loads(validate(tmp_path, changes, *arguments, "-o", "json").output)
    assert plain["ok"] is (status == 0)
    assert [one["code"] for one in plain["advice"]] == shown


def test_the_line(tmp_path: Path) -> None:
    result = validate(tmp_path, WARNED)
    assert result.output.splitlines()[1] == (
        f"{tmp_path}/w.yaml:2:24: warning WP027: max_buffered (1KiB) is less than what one body "
        "may take (1MiB). Raise limits.max_buffered or lower limits.buffer_body. "
        "(docs/lint.md#wp027)"
    )


def test_annotations_for_github(tmp_path: Path) -> None:
    assert validate(tmp_path, WARNED, "-o", "github").output == (
        f"::warning file={tmp_path}/w.yaml,line=2,col=24,title=WP027::max_buffered (1KiB) is less "
        "than what one body may take (1MiB). Raise limits.max_buffered or lower "
        "limits.buffer_body.\n"
    )
    broken = validate(tmp_path, [("to: chat", "to: chart")], "-o", "github")
    assert broken.exit_code == 1
    assert broken.output.startswith(f"::error file={tmp_path}/w.yaml,line=9,col=42,title=invalid::")


def test_sarif(tmp_path: Path) -> None:
    log: dict[str, Any] = json.loads(validate(tmp_path, WARNED, "-o", "sarif").output)
    [run] = log["runs"]
    assert log["version"] == "2.1.0"
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    [result] = run["results"]
    assert result["ruleId"] in known
    assert result["level"] == "warning"
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 24}
