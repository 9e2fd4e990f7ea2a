"""What the routers tell each other: the core's own gossip, over a network that takes its time."""

from functools import partial
from typing import TYPE_CHECKING, Final

from router.core.forecast.forecast import Forecast
from router.core.forecast.gossip import Gossip
from router.core.model import EndpointId
from router.sim.profile import PICOSECONDS, picoseconds
from router.sim.replica import CLUSTER

if TYPE_CHECKING:
    from router.sim.world import World

GATHER: Final = PICOSECONDS // 200
"""Between two flushes, as in the proxy: 5 ms."""


class Mesh:
    """Every router hears every other one. Only balancers that predict have anything to tell.

    Args:
        delay: seconds from a flush until the others have it.
    """

    def __init__(self, world: "World", delay: float) -> None:
        self._world = world
        self._delay = picoseconds(delay)
        self._gathering = [False] * len(world.routers)
        self._gossips = [
            Gossip(index + 1, index + 1, partial(self._told, index))
            for index in range(len(world.routers))
        ]
        self.follow()
        for gossip in self._gossips:
            gossip.join(world.routers[0].seconds)
        self._look()

    def follow(self) -> None:
        """The fleet may have changed."""
        ids: list[EndpointId] = [replica.id for replica in self._world.replicas]
        for gossip, router in zip(self._gossips, self._world.routers, strict=True):
            accounts = router.director.traffic(CLUSTER).accounts
            gossip.follow({CLUSTER: (accounts, ids)} if isinstance(accounts, Forecast) else {})

    def _look(self) -> None:
        world = self._world
        for gossip, router in zip(self._gossips, world.routers, strict=True):
            gossip.look(router.seconds)
        if world.busy:
            world.at(world.now + PICOSECONDS, self._look)

    def _told(self, index: int) -> None:
        if not self._gathering[index]:
            self._gathering[index] = True
            self._world.at(self._world.now + GATHER, partial(self._flush, index))

    def _flush(self, index: int) -> None:
        self._gathering[index] = False
        gossip = self._gossips[index]
        for _, data in gossip.take():
            self._world.at(self._world.now + self._delay, partial(self._deliver, index, data))
        if gossip.talkative:
            self._told(index)

    def _deliver(self, index: int, data: bytes) -> None:
        for other, gossip in enumerate(self._gossips):
            if other != index:
                gossip.hear(data, self._world.routers[other].seconds)

    def __repr__(self) -> str:
        return f"<Mesh {self._gossips!r}>"
