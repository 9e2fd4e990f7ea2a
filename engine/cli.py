"""`warmpath-engine`: `serve` runs a model behind vLLM's HTTP surface, `emulate` imitates one.

Commands are imported when they are called for, so that `emulate` and `--help` need no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final

import click

_COMMANDS: Final[Mapping[str, str]] = {
    "serve": "engine.server.command:serve",
    "emulate": "engine.emulator.cli:emulate",
}


class LazyGroup(click.Group):
    """A group whose commands are named by import path."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = _COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        try:
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            return _missing(cmd_name, error)
        assert isinstance(command, click.Command)
        return command


def _missing(command: str, error: ModuleNotFoundError) -> click.Command:
    """Stands in for a command whose libraries are not installed; says so when it is run."""

    def explain(**_: object) -> None:
        raise click.UsageError(
            f"`{command}` needs the package {error.name}, which is not installed: "
            "pip install 'warmpath[engine]'"
        )

    return click.Command(
        command,
        callback=explain,
        short_help="Needs the engine extra, which is not installed.",
        context_settings={"ignore_unknown_options": True},
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="warmpath", prog_name="warmpath-engine")
def main() -> None:
    """Run the Warmpath inference engine, or an emulated one."""


if __name__ == "__main__":
    main()
