"""Who may call the admin API, and how far: tokens with their roles, and client certificates.

A token is compared with every configured one, each in constant time, so that neither which one it
is nor how much of it is right can be told from the time.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from router.config.build_listeners import address_rules
from router.config.schema import Admin
from router.core.access.addresses import AddressRules
from router.core.access.certificates import names

Role = Literal["read", "operate"]


class Caller(msgspec.Struct, frozen=True):
    """Somebody who was let in. ``name`` is for the audit."""

    name: str
    role: Role


ANYBODY = Caller("-", "operate")
"""On loopback, without tokens."""


class Callers:
    """Everybody whom the configuration lets in.

    Attributes:
        tokens_needed: whether a call must carry a token.
        certificates_needed: whether nobody gets in without a certificate.
    """

    def __init__(self, admin: Admin) -> None:
        self._tokens: list[tuple[bytes, Caller]] = []
        if admin.token is not None:
            self._add(admin.token.reveal(), Caller("admin", "operate"))
        for token in admin.tokens:
            self._add(token.token.reveal(), Caller(token.name, token.role))
        self.tokens_needed = bool(self._tokens)
        self.certificates_needed = admin.by_certificate
        self._addresses: AddressRules | None = address_rules(admin.allow, admin.deny)

    def _add(self, token: str, caller: Caller) -> None:
        self._tokens.append((token.encode(), caller))

    def admits(self, peer: str) -> bool:
        """Whether calls may come from this address."""
        return self._addresses is None or self._addresses.admits(peer)

    def by_token(self, authorization: str) -> Caller | None:
        """Whose header this is."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":  # a scheme is a word in any case, RFC 9110 11.1
            return None
        given = token.strip(" ").encode("utf-8", "surrogateescape")
        found = None
        for expected, caller in self._tokens:
            if hmac.compare_digest(given, expected):
                found = caller
        return found

    def by_certificate(self, certificate: Mapping[str, Any] | None) -> Caller:
        """Who calls without a token; the certificate was verified in the handshake."""
        known = names(certificate) if certificate else ()
        return Caller(known[0], "operate") if known else ANYBODY


def callers_in_force(admin: Callable[[], Admin | None]) -> Callable[[], Callers]:
    """Looks up who may call now; a reload brings another section."""
    present: tuple[Admin, Callers] | None = None

    def look_up() -> Callers:
        nonlocal present
        section = admin() or Admin()
        if present is None or present[0] is not section:
            present = section, Callers(section)
        return present[1]

    return look_up
