"""Who may use the models, in the configuration file: tenants, keys, tokens, addresses.

A key is written as its SHA-256, or as a secret (``file:`` or ``${ENV}``) that is hashed as soon as
it has been read for use. Workers get digests; no view, log or message holds a key.
"""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated, ClassVar, Literal

import msgspec

from router.config.limits import TenantLimits
from router.config.section import Name, Section, Text, doc
from router.config.units import Duration, Interval, Secret
from router.core.access.claims import Issuer
from router.core.access.names import NameSet
from router.core.access.tenants import Access, Mode, Tenant, digest
from router.core.model import Priority

AuthMode = Literal["required", "optional", "off"]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Asymmetric ones: a shared secret would let every reader of the key set issue tokens."""

Network = Annotated[str, msgspec.Meta(min_length=2, max_length=64)]
HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")]


class KeySpec(Section, frozen=True, kw_only=True):
    """One API key: exactly one of the fields. A plain text stands for the secret."""

    shorthand: ClassVar[str | None] = "secret"

    sha256: Annotated[
        Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")] | None,
        doc("Hexadecimal; of the key without a line end: `printf %s KEY | sha256sum`."),
    ] = None
    secret: Annotated[Secret | None, doc("The key itself; file:/path or ${ENV}.")] = None


class TenantSpec(Section, frozen=True, kw_only=True):
    """Somebody who uses the models, known by keys, tokens or client certificates."""

    name: Annotated[Name, doc("Unique among tenants; appears in logs and metrics.")]
    keys: Annotated[
        tuple[KeySpec, ...],
        doc(
            "All of them hold: to change one, add the new, then remove the old.",
            single=True,
            max_length=1000,
        ),
    ] = ()
    certificates: Annotated[
        tuple[Text, ...],
        doc(
            "Names of client certificates (SAN, else CN); * and ? are wildcards.",
            single=True,
            max_length=1000,
        ),
    ] = ()
    models: Annotated[
        tuple[Text, ...],
        doc(
            "What it may ask for; * and ? are wildcards. Empty: every model.",
            single=True,
            max_length=1000,
        ),
    ] = ()
    priority: Annotated[
        Literal["high", "normal", "low"], doc("Of its requests against other tenants'.")
    ] = "normal"
    limits: TenantLimits | None = None


class JwtSpec(Section, frozen=True, kw_only=True):
    """An issuer whose JSON Web Tokens are taken for keys. Needs the extra `warmpath[jwt]`."""

    issuer: Annotated[Text, doc("The claim `iss`, exactly.")]
    audiences: Annotated[
        tuple[Text, ...], doc("One of them must be in the claim `aud`.", single=True, min_length=1)
    ]
    jwks: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^(https?://[!-~]+|file:.+)$", max_length=2048)],
        doc("The issuer's keys (a JWK set): https://... or file:/path."),
    ]
    refresh: Annotated[
        Interval, doc("How often keys are fetched from a URL; after a failure the last stay.")
    ] = Interval(300)
    algorithms: Annotated[
        tuple[Algorithm, ...], doc("What tokens may be signed with.", single=True, min_length=1)
    ] = ("RS256", "ES256")
    leeway: Annotated[Duration, doc("How far clocks may differ, for `exp` and `nbf`.")] = Duration(
        30
    )
    tenant_claim: Annotated[Text, doc("Says who it is; a list is searched for a match.")] = "sub"
    tenants: Annotated[
        dict[Text, Name], doc("Tenant by value of that claim; empty: the value is its name.")
    ] = {}
    models_claim: Annotated[
        Text | None, doc("A list of models and globs that narrows what the tenant may use.")
    ] = None


class Auth(Section, frozen=True, kw_only=True):
    """Whether clients must say who they are. A plain word stands for the mode."""

    shorthand: ClassVar[str | None] = "mode"

    mode: Annotated[
        AuthMode | None,
        doc(
            "`optional`: without a credential a client is nobody in particular, a wrong one is "
            "refused. Default: required where there are tenants, else off."
        ),
    ] = None
    jwt: Annotated[
        tuple[JwtSpec, ...], doc("Whose tokens are taken.", single=True, max_length=16)
    ] = ()


class UpstreamAuth(Section, frozen=True, kw_only=True):
    """What the engines of a cluster want to see, instead of what the client sent."""

    header: Annotated[HeaderName, doc("The header that carries it.")] = "authorization"
    bearer: Annotated[
        Secret | None, doc("Sent as `Bearer ...`; file:/path or ${ENV}. This, or value.")
    ] = None
    value: Annotated[Secret | None, doc("Sent as it is; file:/path or ${ENV}.")] = None

    def line(self) -> bytes:
        """The header line, without CRLF."""
        secret = self.bearer if self.bearer is not None else self.value
        assert secret is not None, "one of the two, says references"
        scheme = "Bearer " if self.bearer is not None else ""
        return f"{self.header.lower()}: {scheme}{secret.reveal()}".encode("ascii")


def digest_of(key: KeySpec) -> bytes:
    """The digest that a key is known by."""
    if key.sha256 is not None:
        return bytes.fromhex(key.sha256)
    assert key.secret is not None, "one of the two, says references"
    return digest(key.secret.reveal().encode("ascii"))


def hashed(tenant: TenantSpec) -> TenantSpec:
    """The tenant with digests in the place of keys."""
    keys = tuple(KeySpec(sha256=digest_of(key).hex()) for key in tenant.keys)
    return msgspec.structs.replace(tenant, keys=keys)


def build_access(tenants: tuple[TenantSpec, ...], auth: Auth) -> Access | None:
    """What the core knows of tenants; None without any."""
    if not tenants:
        return None
    return Access((_tenant(spec) for spec in tenants), tokens=bool(auth.jwt))


def default_mode(tenants: tuple[TenantSpec, ...], auth: Auth) -> Mode:
    """Of listeners that do not say."""
    if auth.mode is not None:
        return auth.mode
    return "required" if tenants else "off"


def build_issuers(auth: Auth) -> tuple[Issuer, ...]:
    return tuple(
        Issuer(
            name=spec.issuer,
            audiences=spec.audiences,
            algorithms=spec.algorithms,
            leeway=float(spec.leeway),
            tenant_claim=spec.tenant_claim,
            tenants=spec.tenants,
            models_claim=spec.models_claim,
        )
        for spec in auth.jwt
    )


def _tenant(spec: TenantSpec) -> Tenant:
    return Tenant(
        name=spec.name,
        keys=tuple(digest_of(key) for key in spec.keys),
        certificates=NameSet(spec.certificates),
        models=NameSet(spec.models) if spec.models else None,
        priority=Priority[spec.priority.upper()],
        by_model=spec.limits is not None and bool(spec.limits.models),
    )
