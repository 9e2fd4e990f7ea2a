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
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="warmpath", prog_name="warmpath-engine")
def main() -> None:
    """Run the Warmpath inference engine, or an emulated one."""


if __name__ == "__main__":
    main()
