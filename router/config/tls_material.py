"""Certificates and keys as bytes, and the contexts made of them.

Whoever reads the files (control, or a check of the configuration) makes the PEM structures here;
whoever speaks TLS makes contexts of them without touching a file. OpenSSL, as Python has it, takes
a private key from a path alone: it is shown one of an anonymous file in memory, which no other
user can open and which is gone when it is closed.
"""

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import msgspec

from router.config.findings import Path
from router.config.tls import ServerTls, UpstreamTls, Version

MAX_PEM = 1 << 20
"""Bytes of one file; a bundle of all public authorities has a quarter of that."""

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_ALPN = ["http/1.1"]


class TlsFault(Exception):
    """A file that cannot be used. ``path``: the field that names it, below the section."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class PairPem(msgspec.Struct, frozen=True):
    """A certificate with its chain, its key, and the names that it is shown for."""

    cert: bytes
    key: bytes
    names: tuple[str, ...] = ()


class ServerPem(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener needs; the first pair is shown to clients that ask for none of the names."""

    pairs: tuple[PairPem, ...]
    client_ca: bytes | None = None
    require_client_cert: bool = True
    min_version: Version = "TLSv1.2"


class UpstreamPem(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection to an engine needs."""

    ca: bytes | None = None
    pair: PairPem | None = None
    verify: bool = True
    min_version: Version = "TLSv1.2"


def server_files(spec: ServerTls) -> tuple[str, ...]:
    """The files that a section names."""
    files = [spec.cert, spec.key]
    for pair in spec.sni:
        files += [pair.cert, pair.key]
    return (*files, *((spec.client_ca,) if spec.client_ca is not None else ()))


def upstream_files(spec: UpstreamTls) -> tuple[str, ...]:
    return tuple(file for file in (spec.ca, spec.cert, spec.key) if file is not None)


def read_server(spec: ServerTls) -> ServerPem:
    """Read a listener's files and try them.

    Raises:
        TlsFault: one cannot be read, or they do not fit together.
    """
    pairs = [_pair(spec.cert, spec.key, ())]
    for index, one in enumerate(spec.sni):
        names = tuple(name.lower() for name in one.names)
        pairs.append(_pair(one.cert, one.key, ("sni", index), names))
    client_ca = None if spec.client_ca is None else _authorities(spec.client_ca, "client_ca")
    return ServerPem(
        pairs=tuple(pairs),
        client_ca=client_ca,
        require_client_cert=spec.require_client_cert,
        min_version=spec.min_version,
    )


def read_upstream(spec: UpstreamTls) -> UpstreamPem:
    """Read a cluster's files and try them.

    Raises:
        TlsFault: one cannot be read, or they do not fit together.
    """
    pair = None
    if spec.cert is not None and spec.key is not None:
        pair = _pair(spec.cert, spec.key, ())
    return UpstreamPem(
        ca=None if spec.ca is None else _authorities(spec.ca, "ca"),
        pair=pair,
        verify=spec.verify,
        min_version=spec.min_version,
    )


def server_context(pem: ServerPem) -> ssl.SSLContext:
    """The context for a listener's handshakes.

    Raises:
        ssl.SSLError: the material does not fit; it does if ``read_server`` made it.
    """
    contexts = [_server_context(pem, pair) for pair in pem.pairs]
    default = contexts[0]
    if len(contexts) > 1:
        by_name = {
            name: context
            for pair, context in zip(pem.pairs[1:], contexts[1:], strict=True)
            for name in pair.names
        }
        default.sni_callback = _chooser(by_name)
    return default


def client_context(pem: UpstreamPem) -> ssl.SSLContext:
    """The context for connections to engines.

    Raises:
        ssl.SSLError: as for ``server_context``.
    """
    cadata = None if pem.ca is None else pem.ca.decode("ascii", "replace")
    context = ssl.create_default_context(cadata=cadata)
    context.minimum_version = _VERSIONS[pem.min_version]
    context.set_alpn_protocols(_ALPN)
    if not pem.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if pem.pair is not None:
        load_pair(context, pem.pair)
    return context


def _server_context(pem: ServerPem, pair: PairPem) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[pem.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    load_pair(context, pair)
    if pem.client_ca is not None:
        context.load_verify_locations(cadata=pem.client_ca.decode("ascii", "replace"))
        needed = ssl.CERT_REQUIRED if pem.require_client_cert else ssl.CERT_OPTIONAL
        context.verify_mode = needed
    return context


def _chooser(
    by_name: dict[str, ssl.SSLContext],
) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower()
        found = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if found is not None:
            connection.context = found

    return choose


def load_pair(context: ssl.SSLContext, pair: PairPem) -> None:
    """Show this certificate in handshakes from now on.

    Raises:
        ssl.SSLError: it cannot be used.
        ValueError: its key has a passphrase.
    """
    with _as_file(pair.key + b"\n" + pair.cert) as path:
        context.load_cert_chain(path, password=_no_passphrase)


def _no_passphrase() -> str:
    # Without this OpenSSL would ask for it on the terminal.
    raise ValueError("the key has a passphrase: it must have none")


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path under which this process alone can read the data until the block ends."""
    if not hasattr(os, "memfd_create"):  # not Linux
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
        return
    descriptor = os.memfd_create("warmpath-tls", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _pair(cert: str, key: str, path: Path, names: tuple[str, ...] = ()) -> PairPem:
    pair = PairPem(_read(cert, (*path, "cert")), _read(key, (*path, "key")), names)
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair)
    except ValueError as error:
        raise TlsFault((*path, "key"), f"{key}: {error}") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFault((*path, "key"), f"{key} is not the key of {cert}") from None
        raise TlsFault(
            (*path, "cert"), f"{cert} and {key} are no PEM certificate and key: {_why(error)}"
        ) from None
    return pair


def _authorities(file: str, field: str) -> bytes:
    data = _read(file, (field,))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=data.decode("ascii", "replace")
        )
    except (ssl.SSLError, ValueError) as error:
        raise TlsFault((field,), f"{file} holds no PEM certificates: {_why(error)}") from None
    return data


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


def _read(file: str, path: Path) -> bytes:
    try:
        with FilePath(file).open("rb") as stream:
            data = stream.read(MAX_PEM + 1)
    except OSError as error:
        raise TlsFault(path, f"cannot read {file}: {error.strerror}") from None
    if len(data) > MAX_PEM:
        raise TlsFault(path, f"{file} is larger than {MAX_PEM} bytes")
    return data
