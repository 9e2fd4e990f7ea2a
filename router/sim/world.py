"""Routers in front of modelled engines, in virtual time.

Each router is a director of its own, with its own fleet: what it knows it has seen itself, read
from the engines, or been told. Its effects are carried out at once, for a millisecond between
router and engine is nothing beside a prefill; what engines do comes back to it as events. A heap
orders what is to happen, by time and then by the order in which it was arranged, so that a seed
gives the same run again, to the byte.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count

from router.core.cluster import Cluster, Scrape
from router.core.load import LoadReport
from router.core.model import EndpointId
from router.core.routing import Destination, Matcher, Route, RouteTable
from router.core.snapshot import Snapshot
from router.sim.engine import Engine, Job
from router.sim.identity import described
from router.sim.incident import befall
from router.sim.mesh import Mesh
from router.sim.oracle import OracleSpec
from router.sim.outcome import End, Outcome
from router.sim.profile import Profile, picoseconds
from router.sim.replica import CLUSTER, Replica
from router.sim.router import Answer, Flight, Router
from router.sim.scenario import Scenario
from router.sim.workload import Arrival


class World:
    """One run.

    Args:
        arrivals: in order of time.

    Attributes:
        now: picoseconds since the start.
        outcomes: of the requests that are over, in that order.
    """

    def __init__(self, scenario: Scenario, arrivals: Sequence[Arrival]) -> None:
        self.scenario = scenario
        self.now = 0
        self.outcomes: list[Outcome] = []
        self.replicas: list[Replica] = []
        self._by_id: dict[EndpointId, int] = {}
        self._arrivals = arrivals
        self._by_key = {str(arrival.key): arrival for arrival in arrivals}
        self._coming = len(arrivals)
        self._over = 0
        self._flights: dict[int, Flight] = {}  # by the key of their job
        self._jobs = count(1)
        self._order = count()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._rng = random.Random(f"world {scenario.seed}")
        for profile in scenario.replicas:
            self.add(profile)
        self._generation = 1
        snapshot = self._snapshot()
        self.routers = [
            Router(self, snapshot, f"router {index} {scenario.seed}")
            for index in range(scenario.routers)
        ]
        self._mesh = None
        if len(self.routers) > 1 and scenario.gossip is not None:
            self._mesh = Mesh(self, scenario.gossip)
        if scenario.scrape:
            self.at(0, self._scrape)
        for incident in scenario.incidents:
            self.at(picoseconds(incident.at), partial(befall, self, incident))

    # --- what there is ----------------------------------------------------------------------

    def add(self, profile: Profile) -> None:
        """One more replica; routers do not know of it yet."""
        engine = Engine(profile, self.scenario.block, jump=self.scenario.jump)
        replica = Replica(len(self.replicas), engine)
        self._by_id[replica.id] = len(self.replicas)
        self.replicas.append(replica)

    def announce(self) -> None:
        """Tell routers which replicas there are."""
        self._generation += 1
        snapshot = self._snapshot()
        for router in self.routers:
            router.director.update(snapshot)
        if self._mesh is not None:
            self._mesh.follow()

    def lose(self, replica: Replica) -> None:
        """All that an engine has."""
        for job in replica.engine.crash():
            flight = self._flights.pop(job.key)
            flight.router.reset(flight)

    def _snapshot(self) -> Snapshot:
        scenario = self.scenario
        spec = scenario.policy.spec
        if spec is None:
            replicas = {replica.id: replica for replica in self.replicas}
            spec = OracleSpec(replicas=replicas, arrivals=self._by_key)
        cluster = Cluster(
            name=CLUSTER,
            endpoints=tuple(replica.endpoint for replica in self.replicas),
            balancer=spec,
            breaker=scenario.breaker,
            queue=scenario.queue,
        )
        route = Route(
            name="all",
            match=Matcher(),
            destinations=(Destination(CLUSTER),),
            retry=scenario.retry,
            timeouts=scenario.timeouts,
        )
        return Snapshot(
            generation=self._generation, clusters={CLUSTER: cluster}, routes=RouteTable([route])
        )

    # --- time -------------------------------------------------------------------------------

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Arrange that ``action`` is called then."""
        heappush(self._due, (when, next(self._order), action))

    def run(self) -> list[Outcome]:
        """Let everything happen, until the last request is over."""
        due = self._due
        for arrival in self._arrivals:
            while due and due[0][0] < arrival.at:
                self.now, _, action = heappop(due)
                action()
            self.now = arrival.at
            self._coming -= 1
            self._arrive(arrival)
        while due:
            self.now, _, action = heappop(due)
            action()
        return self.outcomes

    @property
    def busy(self) -> bool:
        """Whether there are requests to come, or under way."""
        return self._coming > 0 or len(self.outcomes) < len(self._arrivals)

    @property
    def shares(self) -> tuple[float, float]:
        """Of all engines' time until the last request was over: computing, and prompts of it."""
        engines = [replica.engine for replica in self.replicas]
        time = max(1, len(engines) * self._over)
        return sum(one.busy for one in engines) / time, sum(
            one.prefilling for one in engines
        ) / time

    # --- requests ---------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        router = self.routers[0]
        if len(self.routers) > 1:
            router = self.routers[self._rng.randrange(len(self.routers))]
        stream = arrival.stream
        if stream is None:
            streaming = self.scenario.streaming
            stream = streaming >= 1 or self._rng.random() < streaming
        loads = [one.engine.load for one in self.replicas if one.up and one.wanted]
        mean = sum(loads) / len(loads) if loads else 0.0
        crowd = max(loads) / mean if mean else 1.0
        block, block_bytes = self.scenario.block, self.scenario.block_bytes
        request = described(arrival, block, stream=stream, block_bytes=block_bytes)
        router.arrive(arrival, request, crowd)

    def send(self, flight: Flight, endpoint: EndpointId) -> Answer:
        """Send the request to an engine."""
        index = self._by_id[endpoint]
        replica, arrival = self.replicas[index], flight.arrival
        flight.replica = index
        if not replica.up:
            return Answer.REFUSED
        engine = replica.engine
        if not engine.cache.fits(arrival.prompt + arrival.answer):
            return Answer.TOO_LONG
        job = Job(next(self._jobs), arrival.blocks, arrival.prompt, arrival.answer)
        flight.job = job
        self._flights[job.key] = flight
        ends = engine.ends
        engine.submit(job, self.now)
        self._watch(engine, ends)
        return Answer.TAKEN

    def _watch(self, engine: Engine, before: int | None) -> None:
        if engine.ends is not None and engine.ends != before:
            self.at(engine.ends, partial(self._stretch, engine, engine.ends))

    def _stretch(self, engine: Engine, ends: int) -> None:
        """A stretch has ended, unless it was cut short, or the engine is gone."""
        if engine.ends != ends:
            return
        first, done = engine.advance()
        self._watch(engine, None)
        for job in first:
            flight = self._flights[job.key]
            flight.router.first_token(flight)
        for job in done:
            flight = self._flights.pop(job.key)
            flight.router.complete(flight)

    def ended(self, flight: Flight, end: End) -> None:
        """The client has been told all that it will be told."""
        job = flight.job
        self._over = self.now
        self.outcomes.append(
            Outcome(
                arrival=flight.arrival,
                end=end,
                replica=flight.replica,
                attempts=flight.exchange.attempt,
                cached=0 if job is None else job.cached,
                first=flight.first,
                done=self.now if end is End.DONE else -1,
                crowd=flight.crowd,
            )
        )

    # --- what routers read of engines -------------------------------------------------------

    def _scrape(self) -> None:
        for replica in self.replicas:
            if replica.up:
                replica.heard = self.now
                self._tell(replica, replica.report(self.now))
            elif self.now > replica.heard + picoseconds(Scrape().stale_after):
                self._tell(replica, None)
        if self.busy:
            self.at(self.now + picoseconds(self.scenario.scrape), self._scrape)

    def _tell(self, replica: Replica, report: LoadReport | None) -> None:
        for router in self.routers:
            router.fleet.set_load(replica.id, report)
