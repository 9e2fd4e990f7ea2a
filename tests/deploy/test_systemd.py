"""The systemd unit: systemd understands it, and its commands and times fit the router."""

import configparser
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from router.cli.main import main as warmpath
from router.config.schema import Drain

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "deploy/systemd/warmpath.service"
PROGRAM = "/opt/warmpath/bin/warmpath"


def service() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser["Service"]


def test_streams_may_finish() -> None:
    drain = Drain()
    assert int(service()["TimeoutStopSec"]) > float(drain.min_drain) + float(drain.timeout)
    assert service()["KillMode"] == "mixed"


@pytest.mark.parametrize("key", ["ExecStartPre", "ExecStart"])
def test_commands_are_understood(key: str, tmp_path: Path) -> None:
    program, name, *arguments = shlex.split(service()[key])
    assert program == PROGRAM
    command = warmpath.get_command(click.Context(warmpath), name)
    assert command is not None
    config = tmp_path / "warmpath.yaml"
    config.touch()
    here = [str(config) if word.startswith("/etc/") else word for word in arguments]
    assert here != arguments
    command.make_context(name, here)


@pytest.mark.tool
def test_systemd_accepts_the_unit(tool: Callable[..., str], tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # A program that is there: systemd looks for it.
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    result = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"},
    )
    ours = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert (result.returncode, ours) == (0, []), result.stderr
