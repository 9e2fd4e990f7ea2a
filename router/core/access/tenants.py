"""Tenants, and how a credential leads to one.

A key is known by its SHA-256 alone: the digests are the index of a dictionary, so no comparison
ever walks along a key that a client is guessing at. What is found is compared once more in
constant time. A credential that was good is remembered as it was sent, and costs one look-up from
then on: Python compares a keyed hash of 64 bits before it compares bytes, so that the look-up tells
a guesser nothing either. Only good ones are remembered, and a new configuration forgets them all.
"""

import hashlib
import hmac
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from router.core import errors
from router.core.access.names import BothSets, NameSet
from router.core.model import LlmRequest, Priority

MAX_REMEMBERED = 8192
"""Credentials remembered by a worker; beyond, all are forgotten and checked anew."""

Mode = Literal["required", "optional", "off"]
Means = Literal["key", "token", "certificate"]


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who uses the models.

    ``keys``: SHA-256 digests. ``certificates``: of which a client certificate has a name.
    ``models`` None: all of them. ``by_model``: there are limits for some of them.
    """

    name: str
    keys: tuple[bytes, ...] = ()
    certificates: NameSet = NameSet(())
    models: NameSet | None = None
    priority: Priority = Priority.NORMAL
    by_model: bool = False


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who sent a request, and what that permits. ``expires_at``: Unix seconds.

    ``tenant`` None: nobody in particular, where that is allowed. ``certain``: which model is asked
    for decides what is permitted, so that it must be known for certain.
    """

    tenant: str | None = None
    priority: Priority = Priority.NORMAL
    models: NameSet | None = None
    means: Means | None = None
    expires_at: float = math.inf
    certain: bool = False


ANONYMOUS = Identity()

Verify = Callable[[bytes], Identity]
"""A token to whose it is. Raises Unauthorized."""


def digest(key: bytes) -> bytes:
    """What is kept of a key. Keys are long and random, so that one plain hash is enough."""
    return hashlib.sha256(key).digest()


def identity(
    tenant: Tenant, means: Means, models: NameSet | None = None, expires_at: float = math.inf
) -> Identity:
    """The tenant's identity; ``models`` narrow what it may use."""
    both = tenant.models if models is None else models
    if models is not None and tenant.models is not None:
        both = BothSets(tenant.models, models)
    return Identity(
        tenant=tenant.name,
        priority=tenant.priority,
        models=both,
        means=means,
        expires_at=expires_at,
        certain=both is not None or tenant.by_model,
    )


def is_token(credential: bytes) -> bool:
    """Whether it has a JSON Web Token's form; ``eyJ`` is base64 for ``{"``."""
    return credential.startswith(b"eyJ") and credential.count(b".") == 2


class Access:
    """The tenants of one configuration.

    Args:
        tenants: with distinct names and keys.
        tokens: whether tokens are taken for credentials.
    """

    __slots__ = ("_by_digest", "_remembered", "tenants", "tokens")

    def __init__(self, tenants: Iterable[Tenant], tokens: bool = False) -> None:
        self.tenants = {tenant.name: tenant for tenant in tenants}
        self.tokens = tokens
        self._by_digest = {
            key: (key, identity(tenant, "key"))
            for tenant in self.tenants.values()
            for key in tenant.keys
        }
        self._remembered: dict[bytes, Identity] = {}

    def known(self, credential: bytes, now: float) -> Identity | None:
        """Whose credential this is, if it was found good before and still is.

        Args:
            now: Unix seconds.
        """
        found = self._remembered.get(credential)
        if found is not None and found.expires_at <= now:
            del self._remembered[credential]
            return None
        return found

    def identify(self, credential: bytes, verify: Verify) -> Identity:
        """Whose credential this is.

        Args:
            verify: checks a token.

        Raises:
            Unauthorized: nobody's.
        """
        if self.tokens and is_token(credential):
            found = verify(credential)
        else:
            found = self._by_key(credential)
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[credential] = found
        return found

    def _by_key(self, key: bytes) -> Identity:
        given = digest(key)
        known = self._by_digest.get(given)
        if known is None or not hmac.compare_digest(known[0], given):
            raise errors.Unauthorized("Incorrect API key provided.", reason="unknown_key")
        return known[1]

    def by_certificate(self, names: Sequence[str]) -> Identity | None:
        """The tenant that a verified client certificate with these names stands for."""
        for tenant in self.tenants.values():
            if any(tenant.certificates.permits(name) for name in names):
                return identity(tenant, "certificate")
        return None

    def forget(self) -> None:
        """Check every credential anew: the keys that tokens are signed with have changed."""
        self._remembered.clear()

    def __repr__(self) -> str:
        return f"<Access tenants={len(self.tenants)} remembered={len(self._remembered)}>"


def missing(mode: Mode) -> Identity:
    """Who a client without any credential is.

    Raises:
        Unauthorized: one is required.
    """
    if mode == "required":
        raise errors.Unauthorized(
            "You didn't provide an API key. Provide it in an Authorization header using Bearer "
            "auth (i.e. Authorization: Bearer YOUR_KEY).",
            reason="missing",
        )
    return ANONYMOUS


def in_the_name_of(request: LlmRequest, access: Access | None) -> LlmRequest:
    """A request that names its tenant, with what that tenant's credential would give it."""
    tenant = None if access is None else access.tenants.get(request.tenant or "")
    if tenant is None:
        return request
    return request.but(priority=tenant.priority, permitted=tenant.models)


def forbidden(request: LlmRequest) -> errors.RouterError | None:
    """Why a request whose tenant may use certain models only is refused; None if it is not.

    One whose body names no model is refused too: engines take it for whichever model they have.
    """
    assert request.permitted is not None
    model = request.model
    if model is None:
        if not request.body_bytes:
            return None
        return errors.ModelForbidden(
            "you must provide a model parameter: this API key permits certain models only",
            param="model",
        )
    permits = request.permitted.permits
    if permits(model) or (request.alias is not None and permits(request.alias)):
        return None
    return errors.ModelForbidden(
        f"Tenant `{request.tenant}` does not have access to model `{request.alias or model}`.",
        param="model",
    )
