"""``warmpath init``: a configuration to start from, made of what the engines say of themselves."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import click
import msgspec

TIMEOUT = 3.0
"""Seconds for one question to an engine."""
MAX_ANSWER = 8 * 1024 * 1024
EXAMPLES = ("http://localhost:8000", "http://localhost:8001")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine said. ``engine`` None: it tells its load in no words that are known.

    ``adapters``: LoRA adapters that it lists as models, each with its base model.
    """

    address: str
    engine: str | None = None
    models: tuple[str, ...] = ()
    adapters: tuple[tuple[str, str], ...] = ()


class _Entry(msgspec.Struct):
    id: str
    parent: str | None = None


class _Listing(msgspec.Struct):
    data: tuple[_Entry, ...]


class Unreached(Exception):
    """It did not answer; the message says why."""


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default=Path("warmpath.yaml"))
@click.option("--backend", "backends", multiple=True, metavar="URL",
              help="An engine, e.g. http://localhost:8000. Repeatable.")  # fmt: skip
@click.option("--offline", is_flag=True, help="Ask no engine; take the addresses as they are.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init_command(path: Path, backends: tuple[str, ...], offline: bool, force: bool) -> None:
    """Write a configuration to start from (PATH, or - for standard output).

    The engines are asked what they are and which models they serve: those that serve the same
    become one cluster, and each model gets a route. One that does not answer is left out, and
    told. Without engines, two examples stand in their place.
    """
    from router.config.build import from_backends
    from router.config.findings import ConfigError
    from router.config.load import loads

    if path != Path("-") and path.exists() and not force:
        raise click.ClickException(f"{path} is there already; --force replaces it")
    try:
        [cluster] = from_backends(backends or EXAMPLES).clusters
    except ConfigError as error:
        raise click.UsageError("; ".join(str(finding) for finding in error.findings)) from None
    addresses = [str(endpoint.address) for endpoint in cluster.endpoints]
    asked = bool(backends) and not offline
    found = _ask(addresses) if asked else [Found(address=one, engine="vllm") for one in addresses]
    if not found:
        raise click.ClickException("no engine answered; --offline takes them as they are")
    text = compose(found)
    loads(text, str(path))
    if path == Path("-"):
        click.echo(text, nl=False)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"wrote {path}: now warmpath validate {path}, then warmpath serve -c {path}")


def _ask(addresses: Sequence[str]) -> list[Found]:
    found = []
    for address in addresses:
        try:
            one = ask(address)
        except Unreached as error:
            click.echo(f"left out: {address} does not answer: {error}", err=True)
            continue
        said = ", ".join(one.models) or "no list of models"
        click.echo(f"{address}: {one.engine or 'an engine that is not known'}, {said}", err=True)
        found.append(one)
    return found


def ask(address: str) -> Found:
    """What an engine is and serves.

    Raises:
        Unreached: it cannot be asked.
    """
    status, listing = _get(address, "/v1/models")
    entries: tuple[_Entry, ...] = ()
    if status == 200:
        try:
            entries = msgspec.json.decode(listing, type=_Listing).data
        except msgspec.DecodeError:
            pass  # not every server lists its models
    adapters = tuple((entry.id, entry.parent) for entry in entries if entry.parent is not None)
    models = tuple(entry.id for entry in entries if entry.parent is None)
    return Found(address=address, engine=_engine(address), models=models, adapters=adapters)


def _engine(address: str) -> str | None:
    """Whose words stand on its metrics page; Ollama has none, but says its version."""
    from router.control.dialects import REGISTRY
    from router.control.dialects.base import DialectError

    status, page = _get(address, "/metrics")
    if status == 200:
        for dialect in REGISTRY:
            try:
                dialect.load(page, 0.0)
            except DialectError:
                continue
            return dialect.name
    status, version = _get(address, "/api/version")
    return "ollama" if status == 200 and b'"version"' in version else None


def _get(address: str, path: str) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=TIMEOUT) as answer:
            return int(answer.status), bytes(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        return error.code, b""
    except (OSError, HTTPException) as error:
        raise Unreached(str(getattr(error, "reason", error))) from None


# --- the file -----------------------------------------------------------------------------------

HEAD = """\
# Made by warmpath init. Every field, its default and unit: warmpath schema --format markdown
version: 1
listeners: [{name: api, address: "0.0.0.0:8080"}]
admin: {address: "127.0.0.1:9901"}
clusters:
"""


def compose(found: Sequence[Found]) -> str:
    """The text of a configuration: a cluster for engines that are and serve the same."""
    groups: dict[object, list[Found]] = {}
    for one in found:
        kind = (one.engine, frozenset(one.models), frozenset(one.adapters))
        groups.setdefault(kind, []).append(one)
    names: dict[str, None] = {}
    serving: dict[str | None, list[str]] = {}
    lines = [HEAD.rstrip()]
    for engines in groups.values():
        first = engines[0]
        name = _name(first.models[0] if first.models else "engines", names)
        lines.append(f"  - name: {name}")
        if first.engine is None:
            lines.append("    scrape: off  # no words that are known on their metrics pages")
        else:
            lines.append(f"    engine: {first.engine}")
        lines += ["    endpoints:", *(f"      - {_text(one.address)}" for one in engines)]
        if first.models:
            lines.append(f"    models: [{', '.join(map(_text, first.models))}]")
        if first.adapters:
            pairs = (f"{_text(adapter)}: {_text(base)}" for adapter, base in first.adapters)
            lines.append(f"    adapters: {{{', '.join(pairs)}}}")
        for model in first.models or (None,):
            serving.setdefault(model, []).append(name)
    lines.append("routes:")
    taken: dict[str, None] = {}
    # The route without a condition takes what is left, so it stands last.
    for model, clusters in sorted(serving.items(), key=lambda item: item[0] is None):
        match = "" if model is None else f" match: {{model: {_text(model)}}},"
        to = clusters[0] if len(clusters) == 1 else f"[{', '.join(clusters)}]"
        lines.append(f"  - {{name: {_name(model or 'all', taken)},{match} to: {to}}}")
    return "\n".join(lines) + "\n"


def _name(text: str, taken: dict[str, None]) -> str:
    """A name made of a model's, that nothing has yet."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text.rpartition("/")[2]).strip("-._")[:100] or "model"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    taken[name] = None
    return _text(name) if re.fullmatch(r"[0-9.e_+-]+|null|true|false|on|off", name) else name


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
