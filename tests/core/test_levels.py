"""Priority levels and localities: Envoy's integers, and that requests follow them."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from router.core.balancers.maglev import Maglev
from router.core.balancers.prefix_hash import PrefixHash
from router.core.balancers.ring_hash import RingHash
from router.core.balancers.round_robin import RoundRobin
from router.core.cluster import Cluster
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Connect, Head, Reject
from router.core.fleet import Fleet
from router.core.levels import Census, level_at, shares
from router.core.model import AdminState, Endpoint, Locality
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Destination, Matcher, Route, RouteTable
from router.core.snapshot import Snapshot
from tests.core.world import endpoint, request

# (healthy of wanted at each level, panic threshold in percent, load, panic), worked out by hand
# from the code of Envoy; the first rows are the examples of its documentation.
LOADS = [
    ("10/10", 50, (100,), "."),
    ("8/10 2/2", 50, (100, 0), ".."),
    ("7/10 10/10", 50, (98, 2), ".."),
    ("5/10 10/10", 50, (70, 30), ".."),
    ("1/2 2/2", 50, (70, 30), ".."),
    ("1/4 4/4", 50, (35, 65), ".."),
    ("0/10 10/10", 50, (0, 100), ".."),
    ("0/10 7/10 10/10", 50, (0, 98, 2), "..."),
    # All together below 100: scaled up, and the rest of the rounding to the first that is there.
    ("5/10 2/10", 30, (72, 28), ".P"),
    ("1/3 1/3", 30, (50, 50), ".."),
    ("0/3 1/3", 30, (0, 100), "P."),
    ("1/10 1/10 1/10", 5, (34, 33, 33), "..."),
    # A level with too few healthy endpoints does not panic while others make up for it.
    ("1/10 10/10", 50, (14, 86), ".."),
    # Everybody in panic: by size, not by health.
    ("1/10 1/10", 50, (50, 50), "PP"),
    ("0/1 0/2", 50, (34, 66), "PP"),
    ("1/3", 50, (100,), "P"),
    ("2/3", 50, (100,), "."),
    ("2/3", 90, (100,), "P"),
    ("8/10", 90, (100,), "."),  # 112 % available: no panic, whatever the threshold
    # A threshold of 0 never panics.
    ("0/3 0/3", 0, (100, 0), ".."),
    ("1/3 0/3", 0, (100, 0), ".."),
    # Nobody is wanted.
    ("0/0", 50, (100,), "P"),
    ("0/0 2/2", 50, (0, 100), ".."),
]


def census(text: str) -> list[Census]:
    levels = []
    for level in text.split():
        healthy, wanted = map(int, level.split("/"))
        levels.append(Census(wanted, healthy, healthy))
    return levels


@pytest.mark.parametrize(("levels", "threshold", "load", "panic"), LOADS)
def test_loads_are_envoys(levels: str, threshold: int, load: tuple[int, ...], panic: str) -> None:
    found = shares(census(levels), threshold)
    assert (found.load, "".join(".P"[p] for p in found.panic)) == (load, panic)


def test_full_endpoints_bear_no_load_while_others_can() -> None:
    assert shares([Census(2, 2, 1), Census(2, 2, 2)], 50).load == (70, 30)
    assert shares([Census(2, 2, 0), Census(2, 2, 2)], 50).load == (0, 100)
    # All are full: as if none were. They are healthy, so nobody panics.
    assert shares([Census(2, 2, 0), Census(2, 2, 0)], 50) == ((100, 0), (False, False))


LEVELS = st.lists(
    st.integers(0, 30).flatmap(
        lambda wanted: st.integers(0, wanted).flatmap(
            lambda healthy: st.builds(
                Census, st.just(wanted), st.just(healthy), st.integers(0, healthy)
            )
        )
    ),
    min_size=1,
    max_size=6,
)


@given(LEVELS, st.integers(0, 100))
def test_the_load_is_always_whole(levels: list[Census], threshold: int) -> None:
    load, panic = shares(levels, threshold)
    assert sum(load) == 100 and min(load) >= 0
    assert Counter(level_at(load, point) for point in range(100)) == {
        level: share for level, share in enumerate(load) if share
    }
    if threshold == 0:
        assert not any(panic)
    somebody = [level for level, one in enumerate(levels) if one.healthy]
    if somebody and not any(panic):
        # Nobody who could serve is passed over for a level where nobody can, but for the
        # rounding of a health below 1 %.
        assert all(levels[level].healthy or not share for level, share in enumerate(load)) or all(
            140 * one.healthy < one.wanted for one in levels
        )


# --- requests follow ------------------------------------------------------------------------


class Town:
    """A director over one cluster; endpoint ``h3`` is the fourth."""

    def __init__(
        self, *endpoints: Endpoint, balancer: BalancerSpec | None = None, retries: int = 0, **more
    ) -> None:
        cluster = Cluster(
            name="c", endpoints=endpoints, balancer=balancer or RoundRobin.Spec(), **more
        )
        route = Route(
            name="all",
            match=Matcher(),
            destinations=(Destination("c"),),
            retry=RetryPolicy(attempts=retries, on=RetryOn.FIVE_XX, min_retry_concurrency=100),
        )
        table = RouteTable([route])
        snapshot = Snapshot(generation=1, clusters={"c": cluster}, routes=table)
        self.fleet = Fleet()
        self.director = Director(snapshot, self.fleet, random.Random(3))
        self.rng = random.Random(4)

    def down(self, *names: str) -> None:
        for host in self.fleet.hosts.values():
            self.fleet.set_health(host.id, host.endpoint.host not in names)

    def one(self, status: int = 200, key: int | None = None) -> list[str]:
        """The endpoints of one request's attempts; empty if it was refused."""
        key = self.rng.getrandbits(64) if key is None else key
        exchange = self.director.begin(request(prefix_hash=key), 0.0)
        effect = exchange.feed(START, 0.0)
        tried = []
        while isinstance(effect, Connect):
            tried.append(effect.endpoint.host)
            exchange.feed(CONNECTED, 0.0)
            effect = exchange.feed(Head(status), 0.0)
        if not isinstance(effect, Reject) and not exchange.over:
            exchange.feed(COMPLETE, 0.0)
        return tried

    def shares(self, count: int = 2000) -> dict[str, int]:
        """Percent of requests by endpoint, rounded; those refused under an empty name."""
        picks = Counter((self.one() or [""])[0] for _ in range(count))
        return {name: round(100 * n / count) for name, n in sorted(picks.items())}


def at(name: str, priority: int = 0, place: str = "", **more) -> Endpoint:
    return endpoint(name, priority=priority, locality=Locality(*place.split("/")), **more)


TWO_LEVELS = (at("h0"), at("h1"), at("h2", 1), at("h3", 1))


@pytest.mark.parametrize("balancer", [one.Spec() for one in REGISTRY])
def test_the_second_level_waits_then_takes_what_is_left(balancer: BalancerSpec) -> None:
    town = Town(*TWO_LEVELS, balancer=balancer)
    assert set(town.shares(400)) == {"h0", "h1"}
    town.down("h0")
    found = town.shares()
    assert found["h1"] == pytest.approx(70, abs=3)
    assert found["h2"] == pytest.approx(15, abs=4) and found["h3"] == pytest.approx(15, abs=4)
    town.down("h0", "h1")
    assert set(town.shares(400)) == {"h2", "h3"}
    town.down()
    assert set(town.shares(400)) == {"h0", "h1"}


@pytest.mark.parametrize(
    "balancer", [RingHash.Spec(), Maglev.Spec(table_size=1009), PrefixHash.Spec()]
)
def test_a_key_keeps_its_level(balancer: BalancerSpec) -> None:
    town = Town(*TWO_LEVELS, balancer=balancer)
    town.down("h0")
    for key in range(0, 1 << 64, (1 << 64) // 50):
        places = {town.one(key=key)[0] for _ in range(10)}
        assert len(places) == 1
        # Envoy's choice: hash % 100 + 1 against the loads.
        assert (places <= {"h1"}) == (key % 100 < 70)


def test_an_operators_drain_is_no_illness() -> None:
    """Of two endpoints one is drained: the other is all of its level."""
    town = Town(*TWO_LEVELS)
    town.fleet.set_admin(town.director.traffic("c").hosts.all[0].id, AdminState.DRAIN)
    assert town.shares(100) == {"h1": 100}


def test_panic_is_by_level_and_total_panic_by_size() -> None:
    town = Town(*TWO_LEVELS, at("h4", 1))
    town.down("h0", "h1", "h2", "h3", "h4")
    found = town.shares(5000)
    assert found == {name: pytest.approx(20, abs=2) for name in ("h0", "h1", "h2", "h3", "h4")}


def test_who_would_rather_fail_than_panic_gets_errors() -> None:
    town = Town(*TWO_LEVELS, fail_traffic_on_panic=True)
    town.down("h0", "h1", "h2", "h3")
    assert town.shares(50) == {"": 100}
    town.down("h0")
    assert "" not in town.shares(50)


def test_a_threshold_of_nothing_uses_the_healthy_alone() -> None:
    town = Town(at("h0"), at("h1"), at("h2"), panic_threshold=0.0)
    town.down("h0", "h1")
    assert town.shares(50) == {"h2": 100}
    town.down("h0", "h1", "h2")
    assert town.shares(50) == {"": 100}


def test_a_retry_goes_to_the_next_level_when_its_own_has_been_tried() -> None:
    town = Town(*TWO_LEVELS, retries=3)
    tried = town.one(status=503)
    assert set(tried[:2]) == {"h0", "h1"} and set(tried[2:]) == {"h2", "h3"}


# --- localities -------------------------------------------------------------------------------

WEIGHTED = (
    at("h0", place="east/a"),
    at("h1", place="east/a"),
    at("h2", place="east/b"),
    at("h3", place="west/a"),
)


@pytest.mark.parametrize("balancer", [one.Spec() for one in REGISTRY])
def test_localities_get_their_weights(balancer: BalancerSpec) -> None:
    town = Town(*WEIGHTED, balancer=balancer, locality_weights=(("east/a", 3), ("east/b", 1)))
    found = town.shares(4000)
    assert found.get("h3", 0) == 0  # where no weight is there is no load
    assert found["h0"] + found["h1"] == pytest.approx(75, abs=3)
    assert found["h2"] == pytest.approx(25, abs=3)


def test_turns_of_localities_are_exact() -> None:
    """Envoy, weights 3 and 1: 300 and 100 of 400."""
    town = Town(*WEIGHTED, locality_weights=(("east/a", 3), ("east/b", 1)))
    picks = Counter(town.one()[0] for _ in range(400))
    assert (picks["h0"] + picks["h1"], picks["h2"]) == (300, 100)


def test_a_locality_that_ails_gets_less_but_for_the_overprovisioning() -> None:
    """One of two healthy: 3 * 1.4 * 0.5 = 2.1 against 1."""
    town = Town(*WEIGHTED, locality_weights=(("east/a", 3), ("east/b", 1)))
    town.down("h0")
    found = town.shares(3100)
    assert found["h1"] == pytest.approx(100 * 2.1 / 3.1, abs=1)
    town.down("h0", "h1", "h3")
    assert town.shares(100)["h2"] >= 99 or town.director.traffic("c").hosts.panic


def test_a_weight_for_a_region_covers_its_zones_but_for_those_with_their_own() -> None:
    town = Town(*WEIGHTED, locality_weights=(("east", 1), ("east/b", 1), ("west", 2)))
    found = town.shares(400)
    assert found == {"h0": 12, "h1": 12, "h2": 25, "h3": 50}


def test_in_panic_localities_do_not_matter() -> None:
    town = Town(*WEIGHTED, locality_weights=(("east/a", 3), ("east/b", 1)))
    town.down("h0", "h1", "h2")
    assert town.shares(400) == {"h0": 25, "h1": 25, "h2": 25, "h3": 25}


def test_schedules_survive_news_of_others() -> None:
    """The tuples that balancers key their schedules on change only with what is in them."""
    town = Town(*TWO_LEVELS)
    hosts = town.director.traffic("c").hosts
    first, second = (level.whole.hosts for level in hosts.levels)
    town.down("h3")
    assert hosts.levels[0].whole.hosts is first
    assert hosts.levels[1].whole.hosts is not second
    town.fleet.set_weight(hosts.all[0].id, 7)
    assert hosts.levels[0].whole.hosts is not first
