"""Lint rules about access: what travels in the clear, who is not checked, who can never come in."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from router.config.access import default_mode
from router.config.findings import Problem
from router.config.references import loopback
from router.config.schema import Config
from router.config.units import Address

SHORTEST_KEY = 16
"""Characters; 16 hexadecimal digits have 64 bits, and a plain hash of fewer can be searched."""


def keys_in_the_clear(config: Config) -> Iterator[Problem]:
    mode = default_mode(config.tenants, config.auth)
    for index, listener in enumerate(config.listeners):
        checked = (listener.auth or mode) != "off"
        if checked and listener.tls is None and not loopback(listener.address):
            yield Problem(
                ("listeners", index, "address"),
                f"keys come to {listener.address} in the clear, unless what is in front "
                "encrypts them",
            )


def open_beside_tenants(config: Config) -> Iterator[Problem]:
    mode = default_mode(config.tenants, config.auth)
    for index, listener in enumerate(config.listeners):
        unchecked = config.tenants and (listener.auth or mode) == "off"
        if unchecked and not loopback(listener.address) and not listener.allow:
            yield Problem(
                ("listeners", index, "address"),
                f"whoever reaches {listener.address} needs no key and is held to no tenant's "
                "models or limits",
            )


def tenant_without_a_credential(config: Config) -> Iterator[Problem]:
    for index, tenant in enumerate(config.tenants):
        if not tenant.keys and not tenant.certificates and not config.auth.jwt:
            yield Problem(
                ("tenants", index, "name"),
                f"nobody can come as {tenant.name!r}: it has no key and no certificate, and no "
                "token is taken",
            )


def short_key(config: Config) -> Iterator[Problem]:
    for index, tenant in enumerate(config.tenants):
        for number, key in enumerate(tenant.keys):
            if key.secret is not None and len(key.secret.reveal()) < SHORTEST_KEY:
                yield Problem(
                    ("tenants", index, "keys", number),
                    f"this key has fewer than {SHORTEST_KEY} characters: it can be guessed",
                )


def engines_not_verified(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        if cluster.tls is not None and not cluster.tls.verify:
            yield Problem(
                ("clusters", index, "tls", "verify"),
                f"whoever answers for an engine of {cluster.name!r} gets its requests",
            )


def credential_in_the_clear(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        far = [one for one in cluster.endpoints if not loopback(one.address)]
        if cluster.auth is not None and cluster.tls is None and (far or cluster.discovery):
            yield Problem(
                ("clusters", index, "auth"),
                f"the credential of {cluster.name!r} is sent to its engines in the clear",
            )


def key_set_in_the_clear(config: Config) -> Iterator[Problem]:
    for index, issuer in enumerate(config.auth.jwt):
        url = urlsplit(issuer.jwks)
        if url.scheme == "http" and not loopback(Address(f"{url.hostname}:{url.port or 80}")):
            yield Problem(
                ("auth", "jwt", index, "jwks"),
                "who changes this answer on its way signs tokens that are taken",
            )
