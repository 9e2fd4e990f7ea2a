# ruff: noqa: E501
"""``warmpath diff``: what a reload would change, and its exit status."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli.main import main

OLD = """\
version: 1
clusters:
  - name: chat
    endpoints: ["10.0.0.1:8000", {address: "10.0.0.2:8000", weight: 2}]
  - name: spare
    endpoints: ["10.0.0.9:8000"]
routes:
  - {name: first, match: {model: a}, to: chat}
  - {name: second, match: {model: b}, to: spare}
"""


def diff(folder: Path, new: str, *arguments: str, old: str = OLD) -> Result:
    for name, text in (("old.yaml", old), ("new.yaml", new)):
        (folder / name).write_text(text)
    paths = [str(folder / "old.yaml"), str(folder / "new.yaml")]
    return CliRunner().invoke(main, ["diff", *paths, *arguments])


def report(folder: Path, new: str, *, status: int = 1) -> dict[str, Any]:
    result = diff(folder, new, "-o", "json")
    assert result.exit_code == status, result.output
    return json.loads(result.output)  # type: ignore[no-any-return]


def test_the_same_configuration_in_other_words(tmp_path: Path) -> None:
    new = OLD.replace("workers", "").replace('"10.0.0.1:8000"', "{address: '10.0.0.1:8000'}")
    result = diff(tmp_path, new)
    assert (result.exit_code, result.output) == (0, "no change\n")
    assert report(tmp_path, new, status=0)["same"] is True


# (what of OLD is replaced, by what, where in the report, what stands there)
CHANGES = [
    ('"10.0.0.1:8000"', '"10.0.0.3:8000"', ("endpoints", "joining"), ["chat/10.0.0.3:8000"]),
    ('"10.0.0.1:8000"', '"10.0.0.3:8000"', ("endpoints", "leaving"), ["chat/10.0.0.1:8000"]),
    ("weight: 2", "weight: 3", ("changes",), ["~ clusters[chat].endpoints[10.0.0.2:8000].weight: 2 -> 3"]),
    ("name: second", "name: other", ("routes", "joining"), ["other"]),
    ("name: second", "name: other", ("routes", "leaving"), ["second"]),
    ("version: 1", "version: 1\nworkers: 3", ("needs_restart",), ["~ workers: auto -> 3"]),
    ("version: 1", "version: 1\nworkers: 3", ("changes",), []),
    ("version: 1", "version: 1\nlimits: {max_body: 1MiB}", ("changes",), ["~ limits.max_body: 64MiB -> 1MiB"]),
]  # fmt: skip


@pytest.mark.parametrize(("part", "other", "where", "expected"), CHANGES)
def test_a_change(
    tmp_path: Path, part: str, other: str, where: tuple[str, ...], expected: list[str]
) -> None:
    value: Any = report(tmp_path, OLD.replace(part, other, 1))
    for key in where:
        value = value[key]
    assert value == expected


def test_routes_that_change_their_order(tmp_path: Path) -> None:
    lines = OLD.splitlines(keepends=True)
    swapped = "".join([*lines[:-2], lines[-1], lines[-2]])
    assert report(tmp_path, swapped)["routes"] == {"joining": [], "leaving": [], "reordered": True}
    assert "change their order" in diff(tmp_path, swapped).output


def test_the_words(tmp_path: Path) -> None:
    new = OLD.replace("version: 1", "version: 1\nworkers: 3").replace("10.0.0.9", "10.0.0.8")
    assert diff(tmp_path, new).output.splitlines() == [
        "endpoints joining: spare/10.0.0.8:8000",
        "endpoints leaving: spare/10.0.0.9:8000",
        "a reload brings in force:",
        "  + clusters[spare].endpoints[10.0.0.8:8000]",
        "  - clusters[spare].endpoints[10.0.0.9:8000]",
        "needs a restart:",
        "  ~ workers: auto -> 3",
    ]


def test_trouble(tmp_path: Path) -> None:
    result = diff(tmp_path, OLD.replace("to: chat", "to: chart"))
    assert result.exit_code == 2
    assert "no cluster is named 'chart'" in result.output
    gone = CliRunner().invoke(main, ["diff", str(tmp_path / "old.yaml"), "gone.yaml"])
    assert gone.exit_code == 2


def test_no_secret_is_shown(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"hunter-{name}")
    texts = [
        OLD.replace("version: 1", f"version: 1\nadmin: {{token: 'file:{tmp_path / name}'}}", 1)
        for name in ("one", "two")
    ]
    result = diff(tmp_path, texts[1], old=texts[0])
    assert "hunter" not in result.output
    assert (result.exit_code, "~ a secret" in result.output) == (1, True)
