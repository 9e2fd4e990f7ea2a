"""Lint rules about rate limits: whose word they take, and what they come to."""

from collections.abc import Iterator

from router.config.findings import Path, Problem
from router.config.gossip import beyond
from router.config.schema import Config
from router.core.admission.rate_limit import RateLimit
from router.core.balancers.predicted_ttft import PredictedTtft

CLAIMED = ("user", "header:")
"""Descriptors that a client can say anything for; a key, too, where nobody checks it."""


def limit_by_the_clients_word(config: Config) -> Iterator[Problem]:
    claimed = CLAIMED if config.tenants else (*CLAIMED, "key")
    safe = {
        cluster.name
        for cluster in config.clusters
        if any(not _claimed(limit.per, claimed) for limit in cluster.limits)
    }
    for index, route in enumerate(config.routes):
        keys = [limit.per for limit in route.limits]
        if not all(_claimed(per, claimed) for per in keys):
            continue
        if keys and not {arm.cluster for arm in route.to} <= safe:
            yield Problem(
                ("routes", index, "limits"),
                f"every limit of route {route.name!r} counts by what clients say of themselves",
            )


def _claimed(per: tuple[str, ...], claimed: tuple[str, ...]) -> bool:
    return any(descriptor.startswith(claimed) for descriptor in per)


def smaller_than_an_answer(config: Config) -> Iterator[Problem]:
    usual = config.token_estimates.output
    for path, limit in _limits(config):
        if limit.unit == "tokens" and limit.bucket.capacity < usual:
            yield Problem(
                path,
                f"a burst of {limit.bucket.capacity:g} tokens is less than one answer is taken to "
                f"need ({int(usual)}): each request waits for a full bucket",
            )


def whole_limit_without_redis(config: Config) -> Iterator[Problem]:
    redis = config.redis
    if redis is None or not _any_global(config):
        return
    if redis.on_failure == "local_share" and redis.machines == 1:
        yield Problem(
            ("redis", "machines"),
            "while Redis is gone every router allows the whole limit: one machine's part is all",
        )


def redis_for_nothing(config: Config) -> Iterator[Problem]:
    told = beyond(config) is not None and any(
        isinstance(cluster.balancer, PredictedTtft.Spec) for cluster in config.clusters
    )
    if config.redis is not None and not _any_global(config) and not told:
        yield Problem(
            ("redis",), "no limit has scope: global, and no router is told of prompts through it"
        )


def _any_global(config: Config) -> bool:
    return any(limit.scope == "global" for _, limit in _limits(config))


def _limits(config: Config) -> Iterator[tuple[Path, RateLimit]]:
    for field in ("clusters", "routes"):
        for index, one in enumerate(getattr(config, field)):
            for number, limit in enumerate(one.limits):
                yield (field, index, "limits", number), limit.build("")
    for index, tenant in enumerate(config.tenants):
        if tenant.limits is not None:
            places = (path for path, _ in tenant.limits.each())
            for path, built in zip(places, tenant.limits.build(""), strict=True):
                yield ("tenants", index, "limits", *path), built
