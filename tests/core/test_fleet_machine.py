"""The fleet through any sequence of reloads, leases and news: survivors keep what was learned."""

import dataclasses
import random
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.core.balancers.round_robin import RoundRobin
from router.core.cluster import Cluster
from router.core.fleet import Fleet
from router.core.health.strain import MAX_SCARS
from router.core.host import HostState, Lease, Outcome
from router.core.hostset import HostSet, fit
from router.core.model import AdminState, Endpoint, EndpointId, Locality
from tests.core.world import endpoint

NAMES = [f"h{index}" for index in range(6)]
PLACES = ["us/a", "us/b", "eu/a"]
WEIGHTS = (("us/a", 3), ("us/b", 1), ("eu", 2))

ENDPOINTS = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
        st.integers(0, 2), st.sampled_from(PLACES), st.integers(1, 5), st.sampled_from(["", "#u"])
    ),
    max_size=6,
)


class FleetMachine(RuleBasedStateMachine):
    """What each endpoint ought to know is kept beside the fleet, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.rng = random.Random(1)
        self.now = 0.0
        self.endpoints: dict[EndpointId, Endpoint] = {}
        self.leases: list[Lease] = []
        self.in_flight: Counter[EndpointId] = Counter()
        self.ended: dict[EndpointId, Counter[Outcome]] = {}
        self.healthy: dict[EndpointId, bool] = {}
        self.identity: dict[EndpointId, HostState] = {}
        self.weighted = False
        self.set = self.host_set()

    def host_set(self) -> HostSet:
        cluster = Cluster(
            name="c",
            endpoints=tuple(self.endpoints.values()),
            balancer=RoundRobin.Spec(),
            locality_weights=WEIGHTS if self.weighted else (),
        )
        return HostSet(self.fleet, [self.fleet.hosts[id_] for id_ in self.endpoints], cluster)

    @rule(wanted=ENDPOINTS, weighted=st.booleans())
    def reload(self, wanted: dict[str, tuple[int, str, int, str]], weighted: bool) -> None:
        found = [
            dataclasses.replace(
                endpoint(name, weight=weight, locality=Locality(*place.split("/"))),
                id=EndpointId(f"c/{name}:80{uid}"),
                priority=priority,
            )
            for name, (priority, place, weight, uid) in wanted.items()
        ]
        # Who left and has nothing under way is forgotten sooner or later: then it is new.
        kept = self.fleet.hosts.keys() | self.fleet.leaving.keys()
        assert kept >= {lease.host.id for lease in self.leases}
        self.endpoints = {one.id: one for one in found}
        self.fleet.reconcile(iter(found))
        for known in (self.ended, self.healthy, self.identity):
            for id_ in known.keys() - kept:
                del known[id_]
        for id_, host in self.fleet.hosts.items():
            assert self.identity.setdefault(id_, host) is host
        self.weighted = weighted
        self.set = self.host_set()

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        if self.fleet.hosts:
            host = self.fleet.hosts[data.draw(st.sampled_from(sorted(self.fleet.hosts)))]
            self.leases.append(Lease(host, self.now))
            self.in_flight[host.id] += 1

    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def give_back(self, data: st.DataObject, outcome: Outcome) -> None:
        if self.leases:
            lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
            lease.release(outcome, self.now)
            self.in_flight[lease.host.id] -= 1
            self.ended.setdefault(lease.host.id, Counter())[outcome] += 1

    @rule(data=st.data(), healthy=st.booleans())
    def probe(self, data: st.DataObject, healthy: bool) -> None:
        id_ = EndpointId(data.draw(st.sampled_from([f"c/{name}:80" for name in NAMES])))
        self.fleet.set_health(id_, healthy)
        if id_ in self.fleet.hosts:
            self.healthy[id_] = healthy

    @rule(data=st.data(), seconds=st.floats(0.1, 30))
    def push_back(self, data: st.DataObject, seconds: float) -> None:
        if self.fleet.hosts:
            host = self.fleet.hosts[data.draw(st.sampled_from(sorted(self.fleet.hosts)))]
            self.fleet.push_back(host, self.now + seconds)

    @rule(seconds=st.floats(0, 90))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.fleet.strain.due:
            self.fleet.pass_time(self.now)
        self.fleet.prune()

    @invariant()
    def survivors_know_what_they_knew(self) -> None:
        assert self.fleet.hosts.keys() == self.endpoints.keys()
        for id_, host in self.fleet.hosts.items():
            assert host.endpoint == self.endpoints[id_]
            assert host.weight == self.endpoints[id_].weight
            assert host.healthy is self.healthy.get(id_, True)
            ended = self.ended.get(id_, Counter())
            assert host.outcomes == [ended[outcome] for outcome in Outcome]

    @invariant()
    def leases_are_counted_wherever_their_host_is(self) -> None:
        hosts = {**self.fleet.leaving, **self.fleet.hosts}
        for id_, count in self.in_flight.items():
            assert count == (hosts[id_].in_flight if id_ in hosts else 0)
        assert not self.fleet.leaving.keys() & self.fleet.hosts.keys()

    @invariant()
    def what_ends_by_itself_is_bounded_and_ends(self) -> None:
        for host in self.fleet.hosts.values():
            assert 0 <= host.scars <= MAX_SCARS and 0 <= host.healed <= MAX_SCARS
            assert not host.pushed_until or host.pushed_until >= self.fleet.strain.due
            assert host.burden == host.in_flight + host.scars

    @invariant()
    def groups_hold_whom_they_should(self) -> None:
        levels = self.set.levels
        assert sum(level.load for level in levels) == 100
        for level in levels:
            for group in (level.whole, *level.localities):
                assert {host.endpoint.priority for host in group.hosts} <= {level.priority}
                assert len(set(group.hosts)) == len(group.hosts)
                assert all(host.admin is AdminState.READY for host in group.hosts)
                full = all(host.pushed_until for host in group.hosts)
                assert level.panic or full or all(fit(host) for host in group.hosts)
            named = [host for group in level.localities for host in group.hosts]
            assert len(set(named)) == len(named)
        everybody = [host for level in levels for host in level.all]
        assert sorted(host.id for host in everybody) == sorted(self.endpoints)
        group = self.set.draw(None, self.rng)
        # Somebody is drawn wherever anybody is.
        assert group.hosts or not self.endpoints


FleetMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFleet = FleetMachine.TestCase
