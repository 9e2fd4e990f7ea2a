"""The configuration of what routers tell each other of prompts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec

from router.config.findings import Problem
from router.config.section import Section, doc

if TYPE_CHECKING:
    from router.config.limits import RedisSpec
    from router.config.schema import Config


class GossipSpec(Section, frozen=True, kw_only=True):
    """What routers of the same endpoints tell each other, for clusters that balance by
    `predicted_ttft`: where prompts were sent, and what became of them.

    Workers of one machine always do. What leaves the machine are hashes of prompts' beginnings,
    names of endpoints and sizes, some 250 bytes a request.
    """

    redis: Annotated[
        bool | None,
        doc("Tell other machines' routers too, through `redis`; if not given, where there is one."),
    ] = None
    channel: Annotated[
        str,
        msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$"),
        doc("Routers that serve the same endpoints, by the same names of clusters, share one."),
    ] = "default"


def beyond(config: "Config") -> "RedisSpec | None":
    """The Redis through which other machines are told; None: they are not."""
    return None if config.gossip.redis is False else config.redis


def channel(config: "Config") -> str:
    """Its name there."""
    prefix = "" if config.redis is None else config.redis.prefix
    return f"{prefix}gossip:{config.gossip.channel}"


def gossip_problems(config: "Config") -> Iterator[Problem]:
    """What is wrong with the section ``gossip``."""
    if config.gossip.redis and config.redis is None:
        yield Problem(
            ("gossip", "redis"), "other machines are told through Redis: give redis: host:port"
        )
