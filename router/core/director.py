"""The order of the product, written once: route, place, endpoint.

The director owns what a process keeps per cluster (hosts, balancer, queue, retry budget), starts
exchanges and answers their questions. ``update`` swaps it to a new snapshot: exchanges under way
keep their route and its time limits, while their retries see the new endpoints.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from router.core import errors, injection
from router.core.actions import named
from router.core.admission import controller
from router.core.admission.breaker import HIGH, PENDING, Thresholds
from router.core.admission.ledger import BucketStore
from router.core.admission.limiter import Limiter
from router.core.admission.places import Places
from router.core.admission.token_bucket import LocalBuckets
from router.core.balancers.base import Balancer
from router.core.balancers.loads import least_active
from router.core.clock import Rng
from router.core.cluster import Cluster
from router.core.events import Effect
from router.core.exchange import Exchange
from router.core.fallback import Steps
from router.core.fault import FaultState
from router.core.fleet import Fleet
from router.core.host import HostState
from router.core.mirror import MirrorState
from router.core.model import EndpointId, LlmRequest
from router.core.routing import Route
from router.core.snapshot import Snapshot
from router.core.trace import NO_TRACE, DecisionTrace
from router.core.traffic import ClusterTraffic, Subset


class Director:
    """Starts exchanges and decides for them.

    Args:
        snapshot: the configuration to start with.
        fleet: what is known of the endpoints; made to match the snapshot.
        rng: chance.
        slots: rows on the shared board by endpoint id and by cluster name; counted up here if
            not given.
        buckets: levels of the rate limits; this process's own by default.

    Attributes:
        fault_states: by route, of those that injected a fault.
        mirrors: by route and cluster, what is kept of copies of requests.
        steps: counts of requests that went to a fallback.
        limiter: holds requests to their rate limits.
        lines: the clusters in whose queue somebody waits, or did a moment ago.
        displaced: those who gave up their place in line; ask ``next_displaced``.
        reads_prompt: a balancer looks at prompts, so that requests should tell of them.
        reads_conversation: a balancer or a route looks at hashes of the prompt's beginning.
        reads_heads: engines of a cluster tell of themselves in the heads of answers.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        fleet: Fleet,
        rng: Rng,
        slots: Mapping[str, int] | None = None,
        buckets: BucketStore | None = None,
    ) -> None:
        self.fleet = fleet
        self.rng = rng
        self.limiter = Limiter(buckets if buckets is not None else LocalBuckets())
        self.active: dict[int, Exchange] = {}
        self.begun = 0
        self.lines: dict[Places, None] = {}
        self.displaced: deque[Exchange] = deque()
        self._traffic: dict[tuple[str, Subset], ClusterTraffic] = {}
        self._places: dict[str, Places] = {}
        self.fault_states: dict[str, FaultState] = {}
        self.steps = Steps()
        self.mirrors: dict[tuple[str, str], MirrorState] = {}
        self.update(snapshot, slots)

    def update(self, snapshot: Snapshot, slots: Mapping[str, int] | None = None) -> None:
        """Swap to a new snapshot. Queues, budgets and unchanged balancers are carried over."""
        self.fleet.reconcile(snapshot.endpoints(), slots)
        for cluster in snapshot.clusters.values():
            self.fleet.watch(cluster.endpoints, cluster.outlier)
        self.snapshot = snapshot
        self.reads_prompt = any(c.balancer.reads_prompt for c in snapshot.clusters.values())
        self.reads_conversation = any(
            c.balancer.reads_conversation for c in snapshot.clusters.values()
        ) or any(route.reads_conversation for route in snapshot.routes.routes)
        self.reads_heads = any(
            c.asks_load or c.kv_events is not None for c in snapshot.clusters.values()
        )
        self.limiter.update(snapshot)
        self._places = {
            name: self._follow_places(name, limits, cluster, slots)
            for cluster in snapshot.clusters.values()
            for name, limits in cluster.pools()
        }
        routes = {route.name for route in snapshot.routes.routes}
        self.fault_states = {
            name: state
            for name, state in self.fault_states.items()
            if name in routes or state.active
        }
        self.mirrors = {
            key: state for key, state in self.mirrors.items() if key[0] in routes or state.in_flight
        }
        self.fleet.forget_memories(snapshot.clusters)
        self._traffic = {
            key: traffic for key, traffic in self._traffic.items() if key[0] in snapshot.clusters
        }
        for (name, _), traffic in self._traffic.items():
            traffic.retarget(snapshot.clusters[name], self.fleet, self.rng)
            traffic.high = self._places.get(name + HIGH)

    def _follow_places(
        self, name: str, limits: Thresholds, cluster: Cluster, slots: Mapping[str, int] | None
    ) -> Places:
        places = self._places.get(name)
        if places is None:
            slot, pending = (self.fleet.slot(key, slots) for key in (name, name + PENDING))
            places = Places(name, self.fleet.shared, slot, pending, limits)
        places.follow(limits, cluster.queue)
        return places

    def traffic(self, cluster: str, subset: Subset = ()) -> ClusterTraffic:
        """The state of one cluster or subset, made on first use.

        Raises:
            KeyError: if the snapshot has no such cluster.
        """
        traffic = self._traffic.get((cluster, subset))
        if traffic is None:
            traffic = ClusterTraffic(
                self.snapshot.clusters[cluster],
                subset,
                self._places[cluster],
                self.fleet,
                self.rng,
                self._places.get(cluster + HIGH),
            )
            self._traffic[cluster, subset] = traffic
        return traffic

    def faults(self, route: str) -> FaultState:
        """What is kept of a route's faults, made on first use and kept over reloads."""
        return self.fault_states.setdefault(route, FaultState())

    def places(self, cluster: str, *, high: bool = False) -> Places:
        """Raises KeyError where there are none."""
        return self._places[cluster + HIGH if high else cluster]

    def all_places(self) -> Iterator[tuple[str, str, Places]]:
        """Of every cluster: its name, ``default`` or ``high``, and the places."""
        for key, places in self._places.items():
            cluster = self.snapshot.clusters[key.removesuffix(HIGH)]
            yield cluster.name, cluster.breaker_of(key), places

    def mirrored(self, route: str, cluster: str) -> MirrorState:
        """What is kept of a route's copies for a cluster, made on first use."""
        return self.mirrors.setdefault((route, cluster), MirrorState())

    # --- a request's way in -----------------------------------------------------------------

    def begin(self, request: LlmRequest, now: float, trace: DecisionTrace = NO_TRACE) -> Exchange:
        """An exchange in state NEW; feed it START next."""
        aliases = self.snapshot.routes.aliases
        if aliases:
            request = self.snapshot.routes.resolved(request)
        route = self._route(request, trace)
        traffic = actions = None
        if route is not None:
            actions = route.actions
            if route.destinations:
                arm = route.destination(request, self.rng)
                traffic = self.traffic(arm.cluster, arm.subset)
                actions = arm.actions
        if aliases and request.alias is not None:
            actions = named(actions, request.model)
        self.begun += 1
        exchange = Exchange(request, route, traffic, self, trace, now, self.begun)
        exchange.actions = actions
        self.active[exchange.serial] = exchange
        return exchange

    def _route(self, request: LlmRequest, trace: DecisionTrace) -> Route | None:
        routes = self.snapshot.routes
        if routes.preflights and request.method == "OPTIONS":
            preflight = routes.preflight(request)
            if preflight is not None:
                trace.route_matched(preflight)
                return preflight
        if trace is NO_TRACE:
            return routes.match(request, self.rng)
        for route in routes.routes:
            if mismatches := route.match.mismatches(request, self.rng):
                trace.route_rejected(route, mismatches)
            else:
                trace.route_matched(route)
                return route
        return None

    def unroutable(self, request: LlmRequest) -> errors.ClientError:
        """Why no route takes this request, in the client's terms."""
        routes = self.snapshot.routes
        if request.model is not None and routes.denies(request.model):
            asked = request.alias or request.model
            return errors.ModelNotFound(f"The model `{asked}` does not exist.", param="model")
        if request.model is None and request.body_bytes and routes.models():
            return errors.BadRequest("you must provide a model parameter", param="model")
        return errors.NoRoute(f"no route matches {request.method} {request.path}")

    def enter(self, exchange: Exchange, now: float) -> Effect:
        """Within its limits: meet the route's faults, then look for a place."""
        if exchange.route is not None and exchange.route.fault is not None:
            return injection.enter(exchange, now)
        return self.admit(exchange, now)

    def admit(self, exchange: Exchange, now: float) -> Effect:
        """Give the exchange a place, or a place in line, or neither."""
        return controller.admit(exchange, now)

    def next_granted(self, now: float | None = None) -> Exchange | None:
        """A queued exchange for which there is a place now.

        Drivers feed it GRANTED and ask again until the answer is None: whenever an exchange
        has ended, and now and then, since other workers free places too.

        Args:
            now: seconds; without it nobody goes first for having waited long.
        """
        for places in tuple(self.lines):
            if not places.queue.waiting:
                del self.lines[places]
            elif places.active < places.limits.max_connections:
                ticket = places.queue.first(now)
                if ticket is not None:
                    return ticket.exchange
        return None

    def next_displaced(self) -> Exchange | None:
        """A queued exchange that another one displaced. Drivers feed it DISPLACED."""
        while self.displaced:
            exchange = self.displaced.popleft()
            if exchange.queued:
                return exchange
        return None

    # --- an exchange's questions ------------------------------------------------------------

    def pick(self, exchange: Exchange, now: float) -> tuple[HostState, str] | None:
        """The endpoint for the next attempt and the reason, or None if there is none."""
        traffic = exchange.traffic
        assert traffic is not None
        if now >= self.fleet.strain.due:
            self.fleet.pass_time(now)
        hosts = traffic.hosts.usable()
        if traffic.sticky is None:
            return self._choose(exchange, traffic, hosts, now)
        assert exchange.route is not None
        tried = exchange.tried if exchange.route.retry.previous_hosts else ()
        held, word, session = traffic.sticky.find(exchange.request, traffic.hosts, tried, now)
        if held is not None and traffic.limit and held.active >= traffic.limit:
            return self._choose(exchange, traffic, hosts, now)  # this once: it stays the session's
        if held is not None:
            picked = held, word
            if exchange.trace is not NO_TRACE:
                traffic.hosts.explain(exchange.trace)
                exchange.trace.chosen_from((held,))
        elif (chosen := self._choose(exchange, traffic, hosts, now)) is not None:
            picked = chosen[0], chosen[1] + word
        else:
            return None
        exchange.cookie = traffic.sticky.keep(session, picked[0], now)
        return picked

    def _choose(
        self, exchange: Exchange, traffic: ClusterTraffic, hosts: Sequence[HostState], now: float
    ) -> tuple[HostState, str] | None:
        """What the balancer says."""
        request = exchange.request
        balancer, label = traffic.balancer, ""
        if traffic.hosts.layered:
            group = traffic.group(request, self.rng)
            hosts, label = group.hosts, group.label
            balancer = traffic.balancer_of(group, self.rng)
        if exchange.trace is not NO_TRACE:
            traffic.hosts.explain(exchange.trace)
            exchange.trace.chosen_from(hosts)
        if not hosts:
            return None
        assert exchange.route is not None
        policy = exchange.route.retry
        tried = exchange.tried if policy.previous_hosts else ()
        picked = balancer.pick(request, hosts, self.rng, tried, now)
        if traffic.limit and (tried or picked[0].active >= traffic.limit):
            return self._with_room(exchange, traffic, balancer, hosts, now)
        if tried:
            for _ in range(policy.reselections):
                if picked[0].endpoint.id not in tried:
                    break
                picked = balancer.pick(request, hosts, self.rng, tried, now)
            else:
                return self._elsewhere(traffic, hosts, tried) or picked
        return (picked[0], picked[1] + label) if label else picked

    def _with_room(
        self,
        exchange: Exchange,
        traffic: ClusterTraffic,
        balancer: Balancer,
        hosts: Sequence[HostState],
        now: float,
    ) -> tuple[HostState, str] | None:
        """An endpoint that is not full: of these, else of any priority or locality.

        None where all are full: it is a retry then, whose own endpoint is gone.
        """
        assert exchange.route is not None
        policy = exchange.route.retry
        tried = exchange.tried if policy.previous_hosts else ()
        for among in (hosts, traffic.hosts.usable()):
            free = [host for host in among if host.active < traffic.limit]
            if not free:
                continue
            free = [host for host in free if host.endpoint.id not in tried] or free
            avoid = tried + tuple(host.endpoint.id for host in among if host not in free)
            for _ in range(policy.reselections if among is hosts else 0):
                picked = balancer.pick(exchange.request, hosts, self.rng, avoid, now)
                if picked[0] in free:
                    return picked[0], f"{picked[1]}, others are full"
            return least_active(free, self.rng), "others are full"
        return None

    def any_of(self, traffic: ClusterTraffic, request: LlmRequest, now: float) -> HostState | None:
        """An endpoint for a request that is nobody's exchange; None if there is none."""
        hosts, balancer = traffic.hosts.usable(), traffic.balancer
        if traffic.hosts.layered:
            group = traffic.group(request, self.rng)
            hosts, balancer = group.hosts, traffic.balancer_of(group, self.rng)
        return balancer.pick(request, hosts, self.rng, (), now)[0] if hosts else None

    def _elsewhere(
        self, traffic: ClusterTraffic, hosts: Sequence[HostState], tried: tuple[EndpointId, ...]
    ) -> tuple[HostState, str] | None:
        """An endpoint that was not tried yet: of these, else of any priority or locality."""
        for candidates in (hosts, traffic.hosts.usable()):
            if untried := [host for host in candidates if host.endpoint.id not in tried]:
                return least_active(untried, self.rng), "retry elsewhere"
        return None

    def pushed_back(
        self, exchange: Exchange, host: HostState, retry_after: float | None, now: float
    ) -> None:
        """An endpoint that an attempt went to says that it has too much to do."""
        assert exchange.traffic is not None
        policy = exchange.traffic.cluster.back_pressure
        if policy is not None:
            self.fleet.push_back(host, now + policy.spared(retry_after))

    def untried(self, exchange: Exchange) -> bool:
        """Whether the next attempt can go to an endpoint that this request has not been to."""
        assert exchange.route is not None and exchange.traffic is not None
        if not exchange.route.retry.previous_hosts:
            return False
        usable = exchange.traffic.hosts.usable()
        return any(host.endpoint.id not in exchange.tried for host in usable)

    def again(self, exchange: Exchange) -> bool:
        """Whether the cluster bears one more retry, taken from its budget if so.

        The attempt that has just failed counts no longer, as in Envoy.
        """
        assert exchange.route is not None and exchange.traffic is not None
        assert exchange.places is not None
        places = exchange.places
        if exchange.retrying:
            exchange.retrying = False
            places.budget.deposit()
        if exchange.traffic.limit and not self._room_for_retry(exchange, exchange.traffic):
            return False
        policy, most = exchange.route.retry, places.limits.max_retries
        if most is None:
            active = places.active - 1 + places.queue.waiting
            most = max(policy.min_retry_concurrency, int(active * policy.budget_percent / 100.0))
        exchange.retrying = places.budget.withdraw(most)
        return exchange.retrying

    def _room_for_retry(self, exchange: Exchange, traffic: ClusterTraffic) -> bool:
        """Whether an endpoint takes the retry, the present attempt being over."""
        own = None if exchange.lease is None else exchange.lease.host
        return any(host.active - (host is own) < traffic.limit for host in traffic.hosts.usable())

    def ended(self, exchange: Exchange) -> None:
        """The exchange is over: nothing of it may remain here."""
        self.active.pop(exchange.serial, None)
        self.left(exchange)

    def left(self, exchange: Exchange) -> None:
        """The exchange goes from its cluster: no place in line there, no share of its budget."""
        if exchange.ticket is not None:
            exchange.leave_queue()
        if exchange.retrying:
            assert exchange.places is not None
            exchange.retrying = False
            exchange.places.budget.deposit()

    def __repr__(self) -> str:
        return f"<Director {self.snapshot!r} active={len(self.active)}>"
