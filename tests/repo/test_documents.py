"""What the documents tell people to type exists."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from engine.cli import main as warmpath_engine
from router.cli.main import main as warmpath
from router.config.build import build
from router.config.load import loads
from tests.repo.test_house_rules import MARKDOWN, ROOT

README = (ROOT / "README.md").read_text()
GROUPS = {"warmpath": warmpath, "warmpath-engine": warmpath_engine}


def commands(path: Path) -> Iterator[list[str]]:
    """Command lines in code spans and indented blocks, without their comments."""
    text = path.read_text()
    spans = re.findall(r"`([^`\n]+)`", text)
    blocks = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    for line in [*spans, *blocks]:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue  # prose in quotes
        if words:
            yield words


CASES = [
    pytest.param(words, id=f"{path.name}: {' '.join(words)}"[:90])
    for path in MARKDOWN
    if "adr" not in path.parts
    for words in commands(path)
    if Path(words[0]).name in {*GROUPS, "make", "pytest", "python"} and len(words) > 1
]


def option_names(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


@pytest.mark.parametrize("words", CASES)
def test_commands_exist(words: list[str]) -> None:
    program, *arguments = [Path(words[0]).name, *words[1:]]
    if program in GROUPS:
        group = GROUPS[program]
        assert isinstance(group, click.Group)
        command = group.get_command(click.Context(group), arguments[0])
        assert command is not None, f"{program} has no {arguments[0]}"
        given = {word.partition("=")[0] for word in arguments[1:] if word.startswith("--")}
        assert given <= option_names(command)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets
    elif program == "pytest":
        assert all((ROOT / word).exists() for word in arguments if word.startswith("tests/"))
    elif arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]) is not None


def test_there_are_commands_to_check() -> None:
    assert len(CASES) > 20


def test_the_readmes_configuration_is_valid() -> None:
    # Indented code, without the command lines around it.
    block = re.search(r"^ {4}version: 1\n(?: {4}(?!\.venv).+\n)+", README, re.MULTILINE)
    assert block
    text = re.sub(r"^ {4}", "", block[0], flags=re.MULTILINE)
    assert yaml.safe_load(text)["version"] == 1
    assert len(list(build(loads(text, "README.md", {}), 1).endpoints())) == 2


def test_the_changelog_has_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()
