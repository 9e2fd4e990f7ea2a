"""``warmpath explain``: which endpoint a request would go to, and why not the others."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from router.cli.admin_client import AdminClient, output_option, tls_files
from router.cli.explain_view import show
from router.cli.validate import DEFAULT_PATH

if TYPE_CHECKING:
    from router.core.explanation import Description


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"expected 'name: value', got {text!r}", param_hint="--header")
    return name.strip(), value.strip()


@click.command("explain")
@click.option(
    *("-c", "--config"),
    type=click.Path(exists=True, path_type=Path),
    help=f"Configuration file or directory; ./{DEFAULT_PATH} by default.",
)
@click.option("--live", metavar="URL", help="Ask the running router at this admin API instead.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="WARMPATH_ADMIN_TOKEN_FILE",
    show_envvar=True,
    help="With --live: file with the admin API's bearer token.",
)
@click.option("--model", help="The request's model.")
@click.option("--prompt", help="Its first user message; affinity looks at its beginning.")
@click.option("--user", help="The body's field user.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="The body's field max_tokens.")
@click.option("--tenant", help="Who it is for, as an API key would say.")
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high"]),
    default="normal",
    show_default=True,
)
@click.option("--path", default="/v1/chat/completions", show_default=True)
@click.option("--method", default="POST", show_default=True)
@click.option("--header", "headers", multiple=True, help="'name: value'; may be repeated.")
@click.option("--client", default="127.0.0.1", show_default=True, help="The client's address.")
@click.option(
    "--body",
    type=click.File("rb"),
    help="File with the request's body, - for standard input; instead of model, prompt and user.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of whatever is drawn.")
@output_option
def explain_command(
    config: Path | None,
    live: str | None,
    token_file: Path | None,
    headers: tuple[str, ...],
    body: BinaryIO | None,
    max_tokens: int | None,
    seed: int,
    output: str,
    **words: str | None,
) -> None:
    """Explain where a request would go: route, admission, endpoints, pick, retries.

    A dry run: nothing is sent, counted or remembered. Exits 0 if the request goes to an endpoint,
    1 if the client gets an error, 2 for wrong usage, 3 if the admin API cannot be reached.
    """
    from router.core.explanation import Description

    if live is not None and config is not None:
        raise click.UsageError("--live asks the running router: it takes no --config")
    given = (words["model"], words["prompt"], words["user"], max_tokens)
    if body is not None and any(one is not None for one in given):
        raise click.UsageError(
            "a body names its own model, prompt, user and max_tokens: give --body, or these"
        )
    asked = Description(
        method=str(words["method"]).upper(),
        path=str(words["path"]),
        headers=tuple(_header(text) for text in headers),
        client=str(words["client"]),
        model=words["model"],
        user=words["user"],
        prompt=words["prompt"],
        max_tokens=max_tokens,
        tenant=words["tenant"],
        priority=str(words["priority"]),
        body=None if body is None else body.read(),
    )
    if live is not None:
        told = _ask(live, token_file, asked, seed)
    else:
        told = _from_file(config, asked, seed)
    if output == "json":
        click.echo(json.dumps(told, indent=2))
    else:
        show(told)
    raise SystemExit(1 if told["error"] is not None else 0)


def _from_file(path: Path | None, asked: "Description", seed: int) -> dict[str, Any]:
    import random

    import msgspec

    from router.config.build import build
    from router.config.findings import ConfigError
    from router.config.load import load
    from router.core.errors import RouterError
    from router.core.explain import explain, refused
    from router.core.explanation import BadDescription, OwnAnswer
    from router.proxy.describe import describe

    if path is None and not Path(DEFAULT_PATH).exists():
        raise click.UsageError(f"give --config or --live: there is no ./{DEFAULT_PATH}")
    try:
        config = load(path or DEFAULT_PATH)
        snapshot = build(config, 1)
    except ConfigError as error:
        for finding in error.findings:
            click.echo(str(finding), err=True)
        raise SystemExit(1) from None
    try:
        told = explain(snapshot, describe(asked, snapshot), random.Random(seed))
    except RouterError as error:
        told = refused(error)
    except (OwnAnswer, BadDescription) as error:
        raise click.UsageError(str(error)) from None
    arm = next((arm.cluster for arm in told.arms if arm.drawn), None)
    if any(spec.name == arm and spec.discovery is not None for spec in config.clusters):
        view = f"{told.view}; the endpoints of {arm!r} are discovered: ask with --live"
        told = msgspec.structs.replace(told, view=view)
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain


def _ask(url: str, token_file: Path | None, asked: "Description", seed: int) -> dict[str, Any]:
    names = [name.lower() for name, _ in asked.headers]
    if len(set(names)) != len(names):
        raise click.UsageError("with --live a header is given once: join its values by a comma")
    question: dict[str, Any] = {
        "method": asked.method,
        "path": asked.path,
        "headers": dict(asked.headers),
        "client": asked.client,
        "seed": seed,
        "priority": asked.priority,
    }
    for name in ("model", "user", "prompt", "max_tokens", "tenant"):
        if (value := getattr(asked, name)) is not None:
            question[name] = value
    if asked.body is not None:
        try:
            question["body"] = asked.body.decode()
        except UnicodeDecodeError:
            raise click.UsageError("with --live the body must be UTF-8") from None
    token = None if token_file is None else token_file.read_text().strip()
    try:
        admin = AdminClient(url, token, *tls_files(os.environ))
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--live") from None
    answer: dict[str, Any] = admin.call("POST", "/explain", question)
    return answer
