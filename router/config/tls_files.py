"""Whether the files that TLS sections name can be used."""

from collections.abc import Iterator

from router.config.findings import Path, Problem
from router.config.schema import Config
from router.config.tls import ServerTls
from router.config.tls_material import TlsFault, read_server, read_upstream


def tls_problems(config: Config) -> Iterator[Problem]:
    for index, listener in enumerate(config.listeners):
        if listener.tls is not None:
            yield from _server(listener.tls, ("listeners", index, "tls"))
    if config.admin is not None and config.admin.tls is not None:
        yield from _server(config.admin.tls, ("admin", "tls"))
        if config.admin.tls.sni:
            yield Problem(("admin", "tls", "sni"), "the admin API shows one certificate to all")
    for index, cluster in enumerate(config.clusters):
        tls = cluster.tls
        if tls is None:
            continue
        path: Path = ("clusters", index, "tls")
        if (tls.cert is None) != (tls.key is None):
            yield Problem(path, "cert and key go together: give both or neither")
            continue
        if not tls.verify and tls.ca is not None:
            yield Problem((*path, "ca"), "verify: false makes no use of it")
        try:
            read_upstream(tls)
        except TlsFault as fault:
            yield Problem((*path, *fault.path), str(fault))
    certificates = any(tenant.certificates for tenant in config.tenants)
    asked = any(spec.tls is not None and spec.tls.client_ca for spec in config.listeners)
    if certificates and not asked:
        first = next(i for i, tenant in enumerate(config.tenants) if tenant.certificates)
        yield Problem(
            ("tenants", first, "certificates"),
            "no listener asks clients for a certificate (tls.client_ca)",
        )


def _server(tls: ServerTls, path: Path) -> Iterator[Problem]:
    names: dict[str, int] = {}
    for index, pair in enumerate(tls.sni):
        for name in pair.names:
            if name.lower() in names:
                yield Problem((*path, "sni", index, "names"), f"duplicate name {name!r}")
            names[name.lower()] = index
    try:
        read_server(tls)
    except TlsFault as fault:
        yield Problem((*path, *fault.path), str(fault))
