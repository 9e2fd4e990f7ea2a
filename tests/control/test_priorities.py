"""What control tells of priorities: by the workers' arithmetic, and only when it changes."""

import dataclasses
from typing import Any

import msgspec

from router.control.priorities import PriorityWatch, levels
from router.control.roster import Roster
from router.core.model import AdminState
from router.core.snapshot import Snapshot
from tests.core.world import endpoint, snapshot


def town() -> tuple[Roster, Snapshot, list[str]]:
    made = snapshot(1)
    endpoints = (endpoint("h0"), endpoint("h1"), endpoint("h2", priority=5))
    cluster = msgspec.structs.replace(made.clusters["c"], endpoints=endpoints)
    made = dataclasses.replace(made, clusters={"c": cluster})
    roster = Roster()
    roster.reconcile(endpoints)
    return roster, made, [one.id for one in endpoints]


def test_levels_are_those_of_the_workers() -> None:
    roster, made, ids = town()
    roster.set_ejected(roster.standings[ids[0]], True)
    roster.set_pushed(ids[1], 9.0)

    def loads(now: float) -> list[tuple[int, int, int, int]]:
        found = levels(made.clusters["c"], roster.standings, now)
        return [(one["priority"], one["healthy"], one["free"], one["load"]) for one in found]

    assert loads(5.0) == [(0, 1, 0, 0), (5, 1, 1, 100)]
    assert loads(9.0) == [(0, 1, 1, 70), (5, 1, 1, 30)]
    roster.override(ids[0], state=AdminState.DRAIN)
    assert loads(9.0) == [(0, 1, 1, 100), (5, 1, 1, 0)]


def test_changes_are_told_once_and_full_endpoints_are_none() -> None:
    roster, made, ids = town()
    told: list[dict[str, Any]] = []

    def tell(kind: str, /, **fields: Any) -> None:
        told.append({"kind": kind, **fields})

    watch = PriorityWatch(roster, tell)
    for _ in range(2):
        watch.look(made)
    roster.set_pushed(ids[0], 1e9)
    watch.look(made)
    assert told == []
    roster.set_health(roster.standings[ids[0]], False)
    for _ in range(2):
        watch.look(made)
    assert told == [{"kind": "priority", "cluster": "c", "load": {"0": 70, "5": 30}, "panic": []}]
    for id_ in ids:
        roster.set_health(roster.standings[id_], False)
    watch.look(made)
    assert told[1:] == [
        {"kind": "priority", "cluster": "c", "load": {"0": 67, "5": 33}, "panic": [0, 5]}
    ]
    watch.look(dataclasses.replace(made, clusters={}))
    watch.look(made)
    assert len(told) == 2, "a cluster that comes anew is no change"
