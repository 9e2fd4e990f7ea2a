"""What a token's claims say, once its signature has been checked.

The time is an argument, so a token's life can be replayed; signatures are the proxy's business.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from router.core import errors
from router.core.access.names import NameSet
from router.core.access.tenants import Identity, Tenant, identity

Claims = Mapping[str, Any]

LONGEST = 24 * 3600.0
"""Seconds for which a token without an end is remembered; it is checked again then."""
MAX_MODELS = 256


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Whose tokens are taken, and how they lead to tenants.

    ``leeway``: seconds that clocks may differ. ``tenant_claim``: whose value, or one of whose
    values, names the tenant; ``tenants`` maps values to names, empty: they are the names.
    ``models_claim``: a list of models, or a text of them with spaces, that narrows the tenant's.
    """

    name: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 30.0
    tenant_claim: str = "sub"
    tenants: Mapping[str, str] = {}
    models_claim: str | None = None


def refusal(reason: str) -> errors.Unauthorized:
    """Says no more than for a wrong key; the reason is for metrics and logs."""
    return errors.Unauthorized("Incorrect API key provided.", reason=reason)


def judge(issuer: Issuer, claims: Claims, tenants: Mapping[str, Tenant], now: float) -> Identity:
    """Whose token this is.

    Args:
        claims: of a token with a good signature.
        now: Unix seconds.

    Raises:
        Unauthorized: it is not for us, not valid now, or no tenant's.
    """
    if claims.get("iss") != issuer.name:
        raise refusal("token_issuer")
    if not set(_texts(claims.get("aud"))) & set(issuer.audiences):
        raise refusal("token_audience")
    expires_at = _time(claims, "exp")
    if expires_at is not None and expires_at + issuer.leeway <= now:
        raise refusal("token_expired")
    begins_at = _time(claims, "nbf")
    if begins_at is not None and begins_at - issuer.leeway > now:
        raise refusal("token_not_yet_valid")
    tenant = _tenant(issuer, claims, tenants)
    models = None
    if issuer.models_claim is not None and issuer.models_claim in claims:
        value = claims[issuer.models_claim]
        names = value.split() if isinstance(value, str) else _texts(value)
        models = NameSet(names[:MAX_MODELS])
    until = now + LONGEST if expires_at is None else expires_at + issuer.leeway
    return identity(tenant, "token", models, until)


def _tenant(issuer: Issuer, claims: Claims, tenants: Mapping[str, Tenant]) -> Tenant:
    for value in _texts(claims.get(issuer.tenant_claim)):
        name = issuer.tenants.get(value) if issuer.tenants else value
        if name is not None and name in tenants:
            return tenants[name]
    raise refusal("token_tenant")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal("token_malformed")
    return float(value)
