"""The ``warmpath`` command. Sub-commands are imported when called: ``--help`` stays quick."""

import importlib

import click

COMMANDS = {
    "serve": "router.cli.serve",
    "demo": "router.cli.demo",
    "init": "router.cli.init",
    "validate": "router.cli.validate",
    "diff": "router.cli.diff",
    "explain": "router.cli.explain",
    "test": "router.cli.test",
    "simulate": "router.cli.simulate",
    "replay": "router.cli.replay",
    "plan": "router.cli.plan",
    "schema": "router.cli.schema",
    "status": "router.cli.status",
    "top": "router.cli.top",
    "events": "router.cli.events",
    "drain": "router.cli.endpoint",
    "ready": "router.cli.endpoint",
    "weight": "router.cli.endpoint",
    "undo": "router.cli.endpoint",
    "reload": "router.cli.reload",
    "version": "router.cli.version",
}
"""Command name -> module that holds the click command ``NAME_command``."""


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module_name = COMMANDS.get(cmd_name)
        if module_name is None:
            return None
        command = getattr(importlib.import_module(module_name), f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if asked:
        command = main.get_command(ctx, "version")
        assert command is not None
        ctx.invoke(command)
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
              help="The same as the command version.")  # fmt: skip
def main() -> None:
    """An LLM-aware load balancer: each request goes down the warm path."""


if __name__ == "__main__":
    main()
