"""A cluster's settings from a real configuration, so far as a simulated fleet can have them."""

import dataclasses
from pathlib import Path

import msgspec

from router.config.build import build
from router.config.load import load
from router.core.admission.breaker import CircuitBreaker, QueuePolicy
from router.core.balancers.base import BalancerSpec
from router.core.retry.policy import RetryPolicy
from router.sim.scenario import NO_TIMEOUTS, Policy, Scenario


class NoSuchCluster(ValueError):
    """The configuration has no such cluster, or more than one and nobody said which."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """``queue_timeout`` and ``retry`` are of the first route that leads to the cluster."""

    balancer: BalancerSpec
    breaker: CircuitBreaker
    queue: QueuePolicy
    queue_timeout: float
    retry: RetryPolicy

    @property
    def policy(self) -> Policy:
        return Policy(str(self.balancer.__struct_config__.tag), self.balancer)

    def applied(self, scenario: Scenario) -> Scenario:
        """The scenario with these limits instead of its own."""
        timeouts = dataclasses.replace(NO_TIMEOUTS, queue=self.queue_timeout)
        return msgspec.structs.replace(
            scenario,
            breaker=self.breaker,
            queue=self.queue,
            timeouts=timeouts,
            retry=self.retry,
        )


def settings(path: Path, name: str | None) -> Settings:
    """Of one cluster.

    Args:
        name: of the cluster; None where there is only one.

    Raises:
        ConfigError: the configuration is not valid.
        NoSuchCluster: it has none of that name.
    """
    snapshot = build(load(path), 1)
    names = list(snapshot.clusters)
    if name is None and len(names) == 1:
        name = names[0]
    if name is None or name not in snapshot.clusters:
        which = "which cluster is meant" if name is None else f"there is no cluster {name!r}"
        raise NoSuchCluster(f"{path}: {which}: it has {', '.join(names)}")
    cluster = snapshot.clusters[name]
    routes = [
        route
        for route in snapshot.routes.routes
        if any(arm.cluster == name for arm in route.destinations)
    ]
    return Settings(
        balancer=cluster.balancer,
        breaker=cluster.breaker,
        queue=cluster.queue,
        queue_timeout=routes[0].timeouts.queue if routes else 0.0,
        retry=routes[0].retry if routes else RetryPolicy(),
    )
