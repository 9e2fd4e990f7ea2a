"""What any command does with a file that it cannot write, and what the program says of itself."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from router.app import Overrides
from router.cli.main import main
from router.config.findings import ConfigError
from router.config.load import loads
from router.telemetry.version import VERSION
from tests.config.texts import MINIMAL


@pytest.mark.parametrize("command", [["schema", "--out"], ["init"]])
def test_a_file_that_cannot_be_written_is_an_error_of_one_line(
    command: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "gone" / "x"
    result = CliRunner().invoke(main, [*command, str(target)])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.output == f"Error: cannot write {target}: No such file or directory\n"


def test_the_version_is_an_option_too() -> None:
    asked = CliRunner().invoke(main, ["--version"])
    assert asked.exit_code == 0
    assert asked.output.startswith(f"warmpath {VERSION} (Python ")
    assert asked.output == CliRunner().invoke(main, ["version"]).output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (Overrides(listen="0.0.0.0:9901"), "127.0.0.1:9901 is taken by a listener at 0.0.0.0:9901"),
        (
            Overrides(admin="127.0.0.1:8080"),
            "127.0.0.1:8080 is taken by a listener at 0.0.0.0:8080",
        ),
    ],
)
def test_addresses_of_the_command_line_are_checked_as_those_of_the_file(
    overrides: Overrides, message: str
) -> None:
    config = loads(MINIMAL, "w.yaml", {})
    with pytest.raises(ConfigError, match=message):
        overrides.apply(config)
    free = Overrides(listen="127.0.0.2:9901", admin="127.0.0.1:0")
    assert free.apply(config).listeners[0].address == "127.0.0.2:9901"
