"""A drain's story, with a hand clock: how far it is, its deadline, and what ends it early."""

from typing import Any

import pytest

from router.control.drains import Drains, OnDeadline, tokens_left
from router.control.roster import Roster
from router.core.model import AdminState
from tests.core.world import snapshot


class World:
    """One endpoint with requests in flight; ``told`` and ``cancelled`` are what came of it."""

    def __init__(self) -> None:
        self.roster = Roster()
        self.roster.reconcile(snapshot(1).endpoints())
        [self.id] = self.roster.standings
        self.in_flight = 3
        self.told: list[str] = []
        self.cancelled: list[str] = []
        self.drains = Drains(
            self.roster,
            lambda id_: self.in_flight,
            lambda id_, reason: self.cancelled.append(reason),
            self._tell,
        )

    def _tell(self, kind: str, /, **fields: Any) -> None:
        self.told.append(fields["state"])

    def drain(self, deadline: float | None = None, on_deadline: OnDeadline = "cancel") -> None:
        self.roster.override(self.id, state=AdminState.DRAIN)
        self.drains.follow(self.id, 100.0, deadline, on_deadline)

    def at(self, now: float, in_flight: int) -> dict[str, Any] | None:
        self.in_flight = in_flight
        self.drains.look(now)
        return self.drains.status(self.id, now)


def test_it_counts_down_and_says_when_it_is_over() -> None:
    world = World()
    world.drain(deadline=60.0)
    status = world.at(110.0, in_flight=2)
    assert status == {
        "state": "draining",
        "for": 10.0,
        "began_with": 3,
        "in_flight": 2,
        "deadline_in": 50.0,
        "on_deadline": "cancel",
    }
    assert world.at(120.0, in_flight=0)["state"] == "drained"  # type: ignore[index]
    world.at(200.0, in_flight=0)
    assert world.told == ["drained"] and not world.cancelled


def test_at_the_deadline_the_rest_is_cancelled_once() -> None:
    world = World()
    world.drain(deadline=60.0)
    world.at(159.9, in_flight=2)
    assert not world.cancelled
    assert world.at(160.0, in_flight=2)["state"] == "cancelled"  # type: ignore[index]
    world.at(160.5, in_flight=1)
    assert len(world.cancelled) == 1
    world.at(161.0, in_flight=0)
    assert world.told == ["cancelled", "drained"]


def test_or_the_drain_is_undone() -> None:
    world = World()
    world.drain(deadline=60.0, on_deadline="undo")
    assert world.at(160.0, in_flight=1) is None
    assert world.roster.standings[world.id].admin is AdminState.READY
    assert world.told == ["undone"] and not world.cancelled


def test_without_a_deadline_it_waits_for_ever() -> None:
    world = World()
    world.drain()
    status = world.at(1e6, in_flight=1)
    assert status is not None and status["deadline_in"] is None


@pytest.mark.parametrize("how", ["an operator", "its ttl"])
def test_it_ends_with_the_override(how: str) -> None:
    world = World()
    world.drain(deadline=60.0)
    if how == "an operator":
        world.roster.override(world.id, state=AdminState.READY)
        world.drains.follow(world.id, 110.0, None, "cancel")
    else:
        world.roster.override(world.id, state=AdminState.DRAIN, expires_at=110.0)
        world.roster.expire(111.0)
    assert world.at(160.0, in_flight=1) is None
    assert not world.cancelled and not world.told


def test_an_endpoint_that_left_is_forgotten() -> None:
    world = World()
    world.drain(deadline=60.0)
    world.roster.reconcile(())
    assert world.at(160.0, in_flight=1) is None
    assert not world.cancelled


def test_tokens_left_are_those_of_requests_with_a_limit() -> None:
    rows = [{"tokens_left": 10}, {"tokens_left": 5}, {"tokens_left": None}]
    assert tokens_left(rows) == {"tokens_left": 15, "requests": 3, "unknown": 1}
