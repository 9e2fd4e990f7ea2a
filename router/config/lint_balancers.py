"""Lint rules about balancers: where one is known to do harm."""

from collections.abc import Iterator

from router.config.clusters import ClusterSpec
from router.config.findings import Problem
from router.config.schema import Config
from router.core.balancers.cache_aware import CacheAware
from router.core.balancers.dynamo_cost import DynamoCost
from router.core.balancers.scored import Scored

PROMPT_SCRAPE = 0.2
"""Seconds. In simulations of 8 replicas the mean time to the first token is 1.0 s with a scrape
every 100 ms, 2.5 s at 1 s and 9.6 s at 5 s: what had the shortest queue gets everything until the
next look."""

AT_ONCE = ("in_flight", "token_load", "latency")
"""Scorers of load that need no scrape."""


def affinity_that_never_yields(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        balancer = cluster.balancer
        if isinstance(balancer, CacheAware.Spec):
            most = _most_in_flight(cluster)
            if most <= balancer.balance_abs_threshold:
                yield Problem(
                    ("clusters", index, "balancer", "balance_abs_threshold"),
                    f"an endpoint never has more than {most} requests in flight, so that loads "
                    f"never differ by more than {balancer.balance_abs_threshold}: a prompt that "
                    "many share stays at one endpoint",
                )


def _most_in_flight(cluster: ClusterSpec) -> int:
    """At one endpoint, by the circuit breaker."""
    breaker = cluster.circuit_breaker
    limits: list[int | None] = [breaker.max_requests, breaker.max_connections]
    if breaker.per_endpoint is not None:
        limits += [breaker.per_endpoint.max_requests, breaker.per_endpoint.max_connections]
    return min(limit for limit in limits if limit is not None)


def smallest_tree(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        balancer = cluster.balancer
        if isinstance(balancer, CacheAware.Spec) and balancer.fallback == "smallest_tree":
            yield Problem(
                ("clusters", index, "balancer", "fallback"),
                "an endpoint that has just come has the smallest tree, and gets every prompt that "
                "matches nothing until it has caught up",
            )


def load_known_too_late(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        balancer, scrape = cluster.balancer, cluster.scrape
        if not isinstance(balancer, Scored.Spec) or scrape is None:
            continue
        weights = {str(one.__struct_config__.tag): one.weight for one in balancer.scorers}
        scraped = [str(one.__struct_config__.tag) for one in balancer.scorers if one.reads]
        known = any(weights.get(name) for name in AT_ONCE)
        if scraped and not known and scrape.interval > PROMPT_SCRAPE:
            yield Problem(
                ("clusters", index, "balancer"),
                f"load is known by the metrics pages alone ({', '.join(scraped)}), which are read "
                f"every {scrape.interval}: all requests between two readings go where it was best",
            )


def each_worker_for_itself(config: Config) -> Iterator[Problem]:
    if config.workers == 1:
        return
    for index, cluster in enumerate(config.clusters):
        balancer = cluster.balancer
        remembers = isinstance(balancer, CacheAware.Spec | DynamoCost.Spec)
        if remembers or (isinstance(balancer, Scored.Spec) and balancer.reads_prompt):
            yield Problem(
                ("clusters", index, "balancer"),
                "each worker process knows only where it sent prompts itself: with four of them "
                "half of the hits are gone, and the first token takes half as long again or twice "
                "as long",
            )
