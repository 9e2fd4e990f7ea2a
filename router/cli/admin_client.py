"""What the thin commands share: the admin API over HTTP, its options, its errors as exit codes.

Exit codes: 0 done, 1 the router refused, 2 wrong usage, 3 the admin API cannot be reached.
"""

import http.client
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

DEFAULT_URL = "http://127.0.0.1:9901"
TIMEOUT = 15.0
MAX_ANSWER = 64 * 1024 * 1024
UNREACHABLE = 3

Command = TypeVar("Command", bound=Callable[..., Any])


class AdminClient:
    """One admin API.

    Args:
        url: e.g. ``http://127.0.0.1:9901``.
        token: bearer token, if it wants one.
        ca: PEM file of who signed its certificate; the system's authorities by default.
        cert: PEM file of our certificate and key, if it wants one.

    Raises:
        OSError: one of the files cannot be used.
        ValueError: the URL is none.
    """

    def __init__(
        self, url: str, token: str | None = None, ca: Path | None = None, cert: Path | None = None
    ) -> None:
        self._url = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
        parts = urllib.parse.urlsplit(self._url)  # what cannot be one raises ValueError
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"expected http://HOST:PORT, got {url!r}")
        self._token = token
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert)
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded answer. Ends the command with exit code 1 or 3 if there is none."""
        request = self._request(method, path, headers or {}, body)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                found = json.loads(answer.read(MAX_ANSWER))
        except urllib.error.HTTPError as error:
            _fail(_message(error), 1)
        except OSError as error:
            self.unreachable(error)
        except (ValueError, http.client.HTTPException):
            self._foreign()
        if path == "/server_info" and (not isinstance(found, dict) or "generation" not in found):
            self._foreign()
        return found

    def _foreign(self) -> NoReturn:
        """End the command with exit code 3: Envoy's admin API has the same port and some paths."""
        _fail(f"what answers at {self._url} is no admin API of Warmpath", UNREACHABLE)

    def lines(self, path: str, headers: Mapping[str, str], silence: float) -> Iterator[str]:
        """The lines of a stream as they come. Ends the command as ``call`` does if it is refused.

        Args:
            silence: seconds after which it counts as broken.

        Raises:
            OSError: it cannot be reached, or broke.
        """
        try:
            with self._opener.open(self._request("GET", path, headers), timeout=silence) as answer:
                for line in answer:
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
        except urllib.error.HTTPError as error:
            _fail(_message(error), 1)
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None

    def unreachable(self, error: OSError) -> NoReturn:
        """End the command with exit code 3."""
        reason = getattr(error, "reason", error)
        _fail(f"cannot reach the admin API at {self._url}: {reason}", UNREACHABLE)

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> urllib.request.Request:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json", **headers},
        )
        if self._token is not None:
            request.add_header("authorization", f"Bearer {self._token}")
        return request


def tls_files(environment: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """What ``--ca`` and ``--cert`` default to."""
    ca, cert = (environment.get(f"WARMPATH_ADMIN_{name}") for name in ("CA", "CERT"))
    return Path(ca) if ca else None, Path(cert) if cert else None


def admin_options(command: Command) -> Command:
    """Add ``--admin``, ``--token-file``, ``--ca`` and ``--cert``; the command gets an
    ``admin: AdminClient``."""

    def collect(ctx: click.Context, param: click.Parameter, value: str) -> AdminClient:
        token_file: Path | None = ctx.params.pop("token_file", None)
        ca, cert = ctx.params.pop("ca", None), ctx.params.pop("cert", None)
        try:
            token = None if token_file is None else token_file.read_text().strip()
            return AdminClient(value, token, ca, cert)
        except (OSError, ValueError) as error:
            raise click.BadParameter(str(error)) from None

    for name, help_ in (
        ("ca", "PEM file of who signed the admin API's certificate."),
        ("cert", "PEM file of your certificate and its key, where the admin API wants one."),
    ):
        command = click.option(
            f"--{name}",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar=f"WARMPATH_ADMIN_{name.upper()}",
            show_envvar=True,
            is_eager=True,
            help=help_,
        )(command)

    command = click.option(
        "--admin",
        metavar="URL",
        default=DEFAULT_URL,
        envvar="WARMPATH_ADMIN",
        show_default=True,
        show_envvar=True,
        callback=collect,
        help="Admin API of the router.",
    )(command)
    return click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="WARMPATH_ADMIN_TOKEN_FILE",
        show_envvar=True,
        is_eager=True,
        help="File with the admin API's bearer token.",
    )(command)


def output_option(command: Command) -> Command:
    """Add ``-o text|json``."""
    return click.option(
        *("-o", "--output"),
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
    )(command)


def endpoint_path(name: str) -> str:
    """``CLUSTER/HOST:PORT`` to its path in the API.

    Raises:
        click.UsageError: not of that form.
    """
    # A cluster's name may hold slashes, an address cannot.
    cluster, slash, address = name.rpartition("/")
    if not slash or not cluster or not address:
        raise click.UsageError(f"expected CLUSTER/HOST:PORT, got {name!r}")
    quote = urllib.parse.quote
    return f"/clusters/{quote(cluster, safe='')}/endpoints/{quote(address, safe=':[]')}"


def _message(error: urllib.error.HTTPError) -> str:
    try:
        told = json.loads(error.read(MAX_ANSWER))["error"]
        lines = [str(told["message"])]
        lines += [f"  {_finding(finding)}" for finding in told.get("findings", ())]
        return "\n".join(lines)
    except (ValueError, KeyError, TypeError, OSError):
        return f"the admin API answered {error.code}"


def _finding(finding: Mapping[str, Any]) -> str:
    where = finding.get("file") or finding.get("path") or ""
    if finding.get("line"):
        where += f":{finding['line']}:{finding['column']}"
    return f"{where}: {finding['message']}" if where else str(finding["message"])


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(status)
