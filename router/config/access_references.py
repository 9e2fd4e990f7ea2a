"""What the types cannot say of tenants, keys, tokens and addresses."""

import importlib.util
from collections.abc import Iterator

from router.config.access import Auth, TenantSpec, digest_of
from router.config.findings import Path, Problem, closest
from router.config.limits import tenant_limit_problems
from router.config.route_references import duplicates
from router.config.schema import Config
from router.core.access.addresses import parse_network


def access_problems(config: Config) -> Iterator[Problem]:
    yield from duplicates([spec.name for spec in config.tenants], "tenant", ("tenants",), "name")
    yield from _keys(config.tenants)
    for index, tenant in enumerate(config.tenants):
        if tenant.limits is not None:
            yield from tenant_limit_problems(tenant.limits, ("tenants", index), config.redis)
    yield from _modes(config)
    yield from _tokens(config.auth, [tenant.name for tenant in config.tenants])
    for index, cluster in enumerate(config.clusters):
        auth = cluster.auth
        if auth is not None and (auth.bearer is None) == (auth.value is None):
            yield Problem(("clusters", index, "auth"), "give exactly one of bearer, value")
    for number, listener in enumerate(config.listeners):
        here: Path = ("listeners", number)
        yield from _networks(listener.allow, (*here, "allow"))
        yield from _networks(listener.deny, (*here, "deny"))
        yield from _networks(listener.trusted_proxies, (*here, "trusted_proxies"))
        if listener.trusted_hops and listener.trusted_proxies:
            yield Problem((*here, "trusted_proxies"), "trusted_hops and trusted_proxies: give one")


def admin_problems(config: Config) -> Iterator[Problem]:
    """Of the admin API's own tokens and networks; workers know nothing of them."""
    admin = config.admin
    if admin is None:
        return
    names = [token.name for token in admin.tokens]
    yield from duplicates(names, "token", ("admin", "tokens"), "name")
    taken = set() if admin.token is None else {admin.token}
    for index, token in enumerate(admin.tokens):
        if token.token in taken:
            yield Problem(
                ("admin", "tokens", index, "token"), "this token stands for somebody already"
            )
        taken.add(token.token)
    yield from _networks(admin.allow, ("admin", "allow"))
    yield from _networks(admin.deny, ("admin", "deny"))


def _keys(tenants: tuple[TenantSpec, ...]) -> Iterator[Problem]:
    owners: dict[bytes, str] = {}
    for index, tenant in enumerate(tenants):
        for number, key in enumerate(tenant.keys):
            path: Path = ("tenants", index, "keys", number)
            if (key.sha256 is None) == (key.secret is None):
                yield Problem(path, "give exactly one of sha256, secret")
                continue
            digest = digest_of(key)
            if digest in owners:
                yield Problem(path, f"this key belongs to tenant {owners[digest]!r} already")
            owners.setdefault(digest, tenant.name)


def _modes(config: Config) -> Iterator[Problem]:
    if config.tenants:
        return
    if config.auth.mode in ("required", "optional"):
        yield Problem(
            ("auth", "mode"), f"{config.auth.mode!r} needs tenants, and none is configured"
        )
    for index, listener in enumerate(config.listeners):
        if listener.auth in ("required", "optional"):
            yield Problem(
                ("listeners", index, "auth"),
                f"{listener.auth!r} needs tenants, and none is configured",
            )


def _tokens(auth: Auth, tenants: list[str]) -> Iterator[Problem]:
    if auth.jwt and (lacking := _lacking()):
        yield Problem(
            ("auth", "jwt"),
            f"tokens need {' and '.join(lacking)}: pip install 'warmpath[jwt]'",
        )
    yield from duplicates([spec.issuer for spec in auth.jwt], "issuer", ("auth", "jwt"), "issuer")
    for index, spec in enumerate(auth.jwt):
        if not tenants:
            yield Problem(("auth", "jwt", index), "tokens need tenants, and none is configured")
        for value, name in spec.tenants.items():
            if tenants and name not in tenants:
                yield Problem(
                    ("auth", "jwt", index, "tenants", value),
                    f"no tenant is named {name!r}",
                    closest(name, tenants),
                )


def _lacking() -> list[str]:
    wanted = {"jwt": "PyJWT", "cryptography": "cryptography"}
    return [
        package for module, package in wanted.items() if importlib.util.find_spec(module) is None
    ]


def _networks(texts: tuple[str, ...], path: Path) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        try:
            parse_network(text)
        except ValueError as error:
            yield Problem((*path, index), f"not a network: {error}")
