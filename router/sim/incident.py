"""What befalls a fleet in a run. Times in seconds from its start; replicas count from 0."""

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from router.core.model import AdminState
from router.sim.profile import picoseconds

if TYPE_CHECKING:
    from router.sim.replica import Replica
    from router.sim.world import World

DOWN_AFTER = 5.0
"""Seconds until routers know that a replica is down: three probes, two seconds apart, the first of
them a second after the event on average (the defaults of ``ActiveHealth``)."""

UP_AFTER = 3.0
"""The same for one that is back: two probes."""


class Fail(msgspec.Struct, frozen=True, tag=True):
    """A replica dies with all that it has, and is back, empty, after ``duration``."""

    at: float
    duration: float
    replica: int


class Drain(msgspec.Struct, frozen=True, tag=True):
    """A replica is to take no new request."""

    at: float
    replica: int


class Join(msgspec.Struct, frozen=True, tag=True):
    """``replicas`` more, empty, and as the first one is."""

    at: float
    replicas: int


Incident = Fail | Drain | Join


def befall(world: "World", incident: Incident) -> None:
    """It happens now."""
    match incident:
        case Fail():
            _fail(world, world.replicas[incident.replica], incident.duration)
        case Drain():
            replica = world.replicas[incident.replica]
            replica.wanted = False
            for router in world.routers:
                router.fleet.set_admin(replica.id, AdminState.DRAIN)
        case Join():
            for _ in range(incident.replicas):
                world.add(world.scenario.replicas[0])
            world.announce()


def _fail(world: "World", replica: "Replica", duration: float) -> None:
    replica.up = False
    back = world.now + picoseconds(duration)
    down = partial(_probed, world, replica, healthy=False)
    world.at(world.now + picoseconds(DOWN_AFTER), down)
    world.at(back, partial(_restart, replica))
    world.at(back + picoseconds(UP_AFTER), partial(_probed, world, replica, healthy=True))
    world.lose(replica)


def _restart(replica: "Replica") -> None:
    replica.up = True


def _probed(world: "World", replica: "Replica", *, healthy: bool) -> None:
    if replica.up is healthy:  # else it has changed once more
        for router in world.routers:
            router.fleet.set_health(replica.id, healthy)
