"""Lint rules about the queue: whose shares are counted, and who is told of them."""

from collections.abc import Iterator

from router.config.findings import Problem
from router.config.schema import Config

OWN_WORD = ("user", "model")
"""What a client writes into its request itself; headers may have been set by a proxy in front."""


def shares_by_the_clients_word(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        sources = cluster.queue.fair_by
        if sources and sources[0] in OWN_WORD:
            yield Problem(
                ("clusters", index, "queue", "fair_by"),
                f"the queue is shared by {sources[0]!r}, which clients choose themselves: who "
                "invents many gets many shares",
            )


def comments_that_nobody_gets(config: Config) -> Iterator[Problem]:
    for index, cluster in enumerate(config.clusters):
        every = cluster.queue.comments
        waits = [
            route.timeouts.queue
            for route in config.routes
            if any(arm.cluster == cluster.name for arm in route.to)
        ]
        if every and waits and all(0 < wait <= every for wait in waits):
            yield Problem(
                ("clusters", index, "queue", "comments"),
                f"the first comment is due after {every}, and nobody waits longer than "
                f"{max(waits)}",
            )
