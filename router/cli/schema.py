"""``warmpath schema``: the configuration's JSON Schema, or its reference in Markdown."""

from pathlib import Path

import click


@click.command("schema")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write to this file instead of the standard output.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="JSON Schema for editors, or the reference for people.",
)
def schema_command(out: Path | None, kind: str) -> None:
    """Print the schema of the configuration file.

    An editor with a YAML language server completes and checks a file that begins with
    "# yaml-language-server: $schema=PATH".
    """
    from router.config import export, reference

    text = export.render() if kind == "json" else reference.render()
    if out is None:
        click.echo(text, nl=False)
    else:
        try:
            out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write {out}: {error.strerror}") from None
