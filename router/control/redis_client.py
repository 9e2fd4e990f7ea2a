"""A client of the configured Redis, as limits and gossip use it."""

from typing import TYPE_CHECKING

from router.config.limits import RedisSpec

if TYPE_CHECKING:
    from redis.asyncio import Redis


def redis_client(spec: RedisSpec) -> "Redis":
    """Not connected yet; it does not retry by itself. Needs the extra ``redis``."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis(
        host=spec.address.host,
        port=spec.address.port,
        db=spec.database,
        username=spec.username,
        password=None if spec.password is None else spec.password.reveal(),
        ssl=spec.tls,
        retry=Retry(NoBackoff(), 0),
    )
