"""Alerts and dashboards name only what the router publishes, and promtool agrees with them."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana import build
from router.telemetry.metric import PREFIX
from router.telemetry.metrics import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy/prometheus/rules.yaml"

# Added by Prometheus or by histograms, not by the router.
FOREIGN_LABELS = {"instance", "job", "le"}
LABELS = {label for metric in CATALOGUE for label in metric.labels} | FOREIGN_LABELS


def published() -> set[str]:
    names: set[str] = set()
    for metric in CATALOGUE:
        if metric.kind == "histogram":
            names |= {f"{metric.full_name}{part}" for part in ("_bucket", "_sum", "_count")}
        else:
            names.add(metric.full_name)
    return names


def rules() -> Iterator[dict[str, object]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def recorded() -> set[str]:
    return {str(rule["record"]) for rule in rules() if "record" in rule}


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield str(rule.get("record", rule.get("alert"))), str(rule["expr"])
    for board in build.BOARDS:
        for panel in json.loads((build.DASHBOARDS / f"{board}.json").read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{board}: {panel['title']}", target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize("expression", [e for _, e in EXPRESSIONS], ids=[n for n, _ in EXPRESSIONS])
def test_expressions_use_only_the_catalogue(expression: str) -> None:
    names = set(re.findall(rf"\b{PREFIX}\w+|\bwarmpath:[\w:]+", expression))
    assert names <= published() | recorded()
    assert names or "up{" in expression
    grouped = re.findall(r"\bby \(([^)]*)\)", expression)
    selected = re.findall(r"(\w+)(?:=~|=|!=|!~)\"", expression)
    used = {name.strip() for group in grouped for name in group.split(",")} | set(selected)
    assert used <= LABELS


def test_every_published_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    shown = " ".join(expression for _, expression in EXPRESSIONS)
    unseen = [m.full_name for m in CATALOGUE if not re.search(rf"\b{m.full_name}", shown)]
    assert unseen == []


def test_dashboards_are_what_the_table_says() -> None:
    assert {path.stem for path in build.DASHBOARDS.glob("*.json")} == set(build.BOARDS)
    for name in build.BOARDS:
        assert (build.DASHBOARDS / f"{name}.json").read_text() == build.render(name)


def test_panels_do_not_overlap() -> None:
    for name in build.BOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in build.dashboard(name)["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24
            assert not cells & taken
            taken |= cells


def test_every_alert_has_a_runbook_section_and_a_unit_test() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    tests = yaml.safe_load((RULES.parent / "alerts.test.yaml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    alerts = [rule for rule in rules() if "alert" in rule]
    for rule in alerts:
        name = str(rule["alert"])
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        assert annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    names = {str(rule["alert"]) for rule in alerts}
    assert names == set(headings) == fired


@pytest.mark.tool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "rules.yaml"),
        ("test", "rules", "alerts.test.yaml"),
        ("check", "config", "prometheus.yaml"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_promtool(tool: Callable[..., str], arguments: tuple[str, ...]) -> None:
    result = subprocess.run(
        [tool("promtool"), *arguments],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
