"""Who serves while endpoints are replaced, told as a timeline."""

from typing import Any

import pytest

from router.config.build import build
from router.config.load import loads
from router.config.schema import Config
from router.control.handover import Handover
from router.control.roster import Roster
from router.core.model import AdminState


def config(*endpoints: str, more: str = "", health: str = "{}") -> Config:
    listed = ", ".join(one if "{" in one else f"'{one}'" for one in endpoints)
    return loads(
        f"""
version: 1
clusters:
  - {{name: c, endpoints: [{listed}], health: {health}{more}}}
  - {{name: other, endpoints: ["o:1"]}}
routes: [{{name: all, to: c}}, {{name: rest, to: other}}]
""",
        "w",
    )


class World:
    """A roster and a handover; ``serves`` is what would be in force."""

    def __init__(self, start: Config) -> None:
        self.told: list[dict[str, Any]] = []
        self.roster = Roster()
        self.handover = Handover(self.roster, lambda _, **fields: self.told.append(fields))
        self.now = 0.0
        self._served: Config | None = None
        self.bring(start)

    def bring(self, wanted: Config, later: float = 1.0) -> str:
        self.now += later
        plan = self.handover.plan(self._served, wanted, self.now)
        self.handover.bring(plan, self.now)
        self._served = plan.config
        self.roster.reconcile(build(self._served, 1).endpoints())
        return self.serves

    @property
    def serves(self) -> str:
        """Endpoints of the cluster; those in brackets get no request."""
        assert self._served is not None
        return " ".join(
            f"({one.address})" if one.drain else str(one.address)
            for one in self._served.clusters[0].endpoints
        )

    def checked(self, address: str, healthy: bool) -> None:
        self.roster.set_health(self.roster.standings[f"c/{address}"], healthy)


def serving(*endpoints: str, **fields: Any) -> World:
    """A world in which they all pass their checks."""
    world = World(config(*endpoints, **fields))
    for endpoint in endpoints:
        world.checked(endpoint, True)
    return world


def test_who_serves_stays_until_one_that_comes_can() -> None:
    world, new = serving("a:1", "b:1"), config("n:1", "m:1")
    assert world.bring(new) == "a:1 b:1 (n:1) (m:1)"
    assert world.bring(new) == "a:1 b:1 (n:1) (m:1)", "none has been checked yet"
    world.checked("n:1", False)
    assert world.bring(new) == "a:1 b:1 (n:1) (m:1)"
    world.checked("m:1", True)
    assert world.bring(new) == "n:1 m:1"
    assert world.handover.held == {}
    assert world.told == [
        {"cluster": "c", "state": "began", "kept": ["a:1", "b:1"]},
        {"cluster": "c", "state": "ended", "after": 3.0, "served": True},
    ]


def test_one_that_serves_already_and_stays_is_enough() -> None:
    world = serving("a:1", "b:1")
    assert world.bring(config("b:1", "n:1")) == "b:1 n:1"
    assert world.told == []


def test_who_stays_and_is_down_is_not() -> None:
    world = serving("a:1", "b:1")
    world.checked("b:1", False)
    assert world.bring(config("b:1", "n:1")) == "a:1 (b:1) (n:1)"


def test_who_is_down_is_not_kept() -> None:
    world = serving("a:1", "b:1")
    world.checked("a:1", False)
    assert world.bring(config("n:1")) == "b:1 (n:1)"
    world.checked("b:1", False)
    assert world.bring(config("n:1")) == "n:1", "nobody is left who could be kept"
    assert world.told[-1]["served"] is False


def test_it_does_not_take_for_ever() -> None:
    world = serving("a:1")
    new = config("n:1", more=", handover: 10s")
    assert world.bring(new) == "a:1 (n:1)"
    assert world.bring(new, later=9.9) == "a:1 (n:1)"
    assert world.bring(new, later=0.2) == "n:1"
    assert world.bring(new) == "n:1", "nor does it begin anew"


def test_a_change_in_between_goes_on_from_what_serves() -> None:
    world = serving("a:1")
    world.bring(config("n:1"))
    assert world.bring(config("m:1")) == "a:1 (m:1)", "n was never in force"
    assert world.bring(config("a:1")) == "a:1", "it was taken back"
    assert world.handover.held == {}
    assert world.told[-1]["served"] is True


def test_a_plan_that_is_not_brought_in_force_changes_nothing() -> None:
    """As of a reload that is refused late, or that reads its files while control looks around."""
    world, old, new = serving("a:1"), config("a:1"), config("n:1")
    reload = world.handover.plan(old, new, 1.0)
    assert list(reload.held) == ["c"]
    assert world.handover.plan(old, old, 1.0).held == {}
    assert world.handover.held == {}
    assert world.told == []
    world.handover.bring(reload, 1.0)
    assert list(world.handover.held) == ["c"]
    world.handover.plan(reload.config, old, 2.0)
    assert list(world.handover.held) == ["c"]


def test_what_an_operator_or_the_configuration_drains_is_no_reason_to_wait_nor_kept() -> None:
    world = serving("a:1", "b:1")
    world.roster.override("c/a:1", state=AdminState.DRAIN)
    assert world.bring(config("n:1")) == "b:1 (n:1)"
    world = serving("a:1")
    assert world.bring(config("{address: 'n:1', drain: true}")) == "(n:1)"
    world = serving("a:1", "b:1")
    world.roster.override("c/b:1", state=AdminState.MAINT)
    assert world.bring(config("b:1")) == "b:1"


@pytest.mark.parametrize(
    "fields", [{"health": "{active: off}"}, {"more": ", handover: 0"}], ids=["no checks", "off"]
)
def test_where_nobody_would_know_or_wants_it(fields: dict[str, str]) -> None:
    world = serving("a:1", **fields)
    assert world.bring(config("n:1", **fields)) == "n:1"


def test_a_cluster_that_goes_is_not_kept_and_others_are_left_alone() -> None:
    world = serving("a:1")
    world.bring(config("n:1"))
    without = loads(
        'version: 1\nclusters: [{name: other, endpoints: ["o:1"]}]\nroutes: [{name: r, to: other}]',
        "w",
    )
    world.bring(without)
    assert world.handover.held == {}
    assert world.told[-1] == {"cluster": "c", "state": "ended", "after": 1.0, "served": False}
