"""``warmpath reload``: bring the edited configuration in force."""

import json

import click

from router.cli.admin_client import AdminClient, admin_options, output_option


@click.command("reload")
@click.option("--generation", type=int, help="Only if this generation is in force.")
@output_option
@admin_options
def reload_command(admin: AdminClient, output: str, generation: int | None) -> None:
    """Read the configuration again; says what changed.

    Exits with 1 if it was refused: the one in force stays.
    """
    headers = {} if generation is None else {"if-match": f'"{generation}"'}
    reloaded = admin.call("POST", "/reload", {}, headers)
    if output == "json":
        click.echo(json.dumps(reloaded, indent=2))
        return
    click.echo(f"generation {reloaded['generation']} is in force")
    for line in reloaded["changes"] or ["no changes"]:
        click.echo(f"  {line}")
    for line in reloaded["needs_restart"]:
        click.echo(f"  needs a restart: {line}")
    for line in reloaded["refused_by"]:
        click.echo(f"  a worker did not take it: {line}", err=True)
