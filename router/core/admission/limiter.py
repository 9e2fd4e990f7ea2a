"""Holds requests to their limits: what is reserved when one starts, and settled when it ends.

The limits of a request are its route's, its cluster's and its tenant's. The buckets of this
machine are drawn on at once, all or none. Where a limit is shared by all routers the exchange then
waits in state LIMITING for the answer of the shared store, which is asked for all of its buckets
in one step; if no answer comes in time, ``on_failure`` says what holds instead. A refusal gives
back what the machine's buckets gave.
"""

from typing import TYPE_CHECKING, Final

from router.core import errors
from router.core.admission.claims import Claim, Wanted
from router.core.admission.estimates import Consumption, Estimator
from router.core.admission.ledger import BucketStore, Ledger
from router.core.admission.meter import Meter, NoMeter
from router.core.admission.plan import Plans, draws_for
from router.core.admission.rate_limit import RateLimit, Standing, refusal
from router.core.admission.reservation import Reservation
from router.core.admission.shared_store import Shared, SharedStore
from router.core.admission.token_bucket import (
    BucketSpec,
    Draw,
    Verdict,
)
from router.core.events import Effect, Wait
from router.core.model import LlmRequest
from router.core.states import State

if TYPE_CHECKING:
    from router.core.exchange import Exchange
    from router.core.snapshot import Snapshot

_LIMITING: Final = State.LIMITING
_DONE: Final = State.DONE
_REJECTED: Final = State.REJECTED

DEBIT_INTERVAL: Final = 1.0
"""Seconds between two looks at how long running answers have become."""
NAMES: Final = 4096
"""Limits that are counted by name; names of generations long gone stay among them."""


class Counts:
    """What became of limits, by their names, for metrics."""

    __slots__ = ("charged", "forgiven", "passed", "refused", "reserved")

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.passed: dict[str, int] = {}  # would have been refused, were the limit enforced
        self.reserved = 0.0
        self.charged = 0.0
        self.forgiven = 0.0


class Limiter:
    """One for a process; keeps its counts and estimates over reloads.

    Args:
        store: the machine's buckets.

    Attributes:
        shared: the store of all routers; None where there is none.
        meter: tells what running responses have come to.
        active: whether the snapshot has any limit at all.
        dry: nobody is asked; what other routers share is taken to allow everything.
    """

    def __init__(self, store: BucketStore) -> None:
        self.store = store
        self.shared: Shared | None = None
        self.meter: Meter = NoMeter()
        self.estimator = Estimator()
        self.counts = Counts()
        self.active = False
        self.dry = False
        self._tenants: dict[str, tuple[RateLimit, ...]] = {}
        self._joined: dict[tuple[str, str], tuple[str, tuple[RateLimit, ...]]] = {}
        self._rules = SharedStore()
        self._plans = Plans()
        self._streams: dict[int, Exchange] = {}
        self._debit_due = 0.0

    def update(self, snapshot: "Snapshot") -> None:
        """Follow a reload. Reservations under way keep the limits they were made under."""
        self._tenants = dict(snapshot.tenant_limits)
        self._rules = snapshot.shared_store
        self._joined.clear()
        self._plans.clear()
        self.estimator.settings = snapshot.estimates
        self.active = (
            bool(self._tenants)
            or any(route.limits for route in snapshot.routes.routes)
            or any(cluster.limits for cluster in snapshot.clusters.values())
        )

    def limits(self, exchange: "Exchange") -> tuple[RateLimit, ...]:
        """The limits that may concern a request, its route's first."""
        tenant = exchange.request.tenant
        own = self._tenants.get(tenant) if tenant is not None else None
        limits = self._of_route(exchange)[1]
        return limits if own is None else limits + own

    def _of_route(self, exchange: "Exchange") -> tuple[str, tuple[RateLimit, ...]]:
        """The limits of a request's route and of the cluster it goes to, and a name for both."""
        route, traffic = exchange.route, exchange.traffic
        assert route is not None
        if traffic is None or not traffic.cluster.limits:
            return route.name, route.limits
        key = (route.name, traffic.cluster.name)
        found = self._joined.get(key)
        if found is None:
            # Routes and clusters may bear any name, so the two are kept apart by a control byte.
            found = self._joined[key] = ("\0".join(key), route.limits + traffic.cluster.limits)
        return found

    def amount(self, limit: RateLimit, request: LlmRequest) -> float:
        """What a limit takes for a request at its start."""
        if limit.unit == "requests":
            return 1.0
        # A request that needs more than fits waits for a full bucket, not for ever.
        return min(sum(self.estimator.expected(request)), limit.bucket.capacity)

    # --- the start --------------------------------------------------------------------------

    def start(self, exchange: "Exchange", now: float) -> Effect:
        """Take what the request needs of its limits, and let it go on, wait or end."""
        request = exchange.request
        tenant = request.tenant
        own = self._tenants.get(tenant) if tenant is not None else None
        name, limits = self._of_route(exchange)
        if own is None and not limits:
            return exchange.director.enter(exchange, now)
        plan = self._plans.find(name, limits, own, request)
        here, everywhere = plan.here, plan.everywhere
        if not here and not everywhere:
            return exchange.director.enter(exchange, now)
        tokens = prompt = 0.0
        if plan.tokens:
            prompt, output = self.estimator.expected(request)
            tokens = prompt + output
        exchange.reservation = reservation = Reservation(prompt, plan.tokens)
        if here:
            draws = plan.here_draws
            if plan.tokens:
                draws = draws_for(tokens, here, draws)
            if not self._take(exchange, (here, draws), now):
                return self._refuse(exchange, now)
        if everywhere:
            asked = draws_for(tokens, everywhere, plan.everywhere_draws)
            return self._ask(exchange, (everywhere, asked), now)
        return self._admit(exchange, reservation, now)

    def _take(self, exchange: "Exchange", wanted: Wanted, now: float) -> bool:
        """Draw on this machine's buckets."""
        store = self.store
        return self._hear(exchange, wanted, store.take(wanted[1], now), store)

    def _hear(
        self,
        exchange: "Exchange",
        wanted: Wanted,
        verdicts: tuple[Verdict, ...],
        ledger: Ledger,
    ) -> bool:
        """Keep what was said, and what was taken; False if the request is refused."""
        reservation = exchange.reservation
        assert reservation is not None
        limits, draws = wanted
        standing = Standing(limits, draws, verdicts)
        before = exchange.standing
        exchange.standing = standing if before is None else before.with_more(standing)
        claims: list[Claim] = []
        passed: list[str] = []
        for index in range(len(limits)):
            limit, draw, verdict = limits[index], draws[index], verdicts[index]
            if verdict.allowed:
                claims.append(Claim(limit, draw, draw.amount, ledger))
            elif draw.binding:
                return False
            else:
                passed.append(limit.name)
        if reservation.claims:
            claims = reservation.claims + claims
        reservation.claims = claims
        for name in passed:
            _count(self.counts.passed, name)
        return True

    def _admit(self, exchange: "Exchange", reservation: Reservation, now: float) -> Effect:
        if reservation.tokens:
            self._streams[exchange.serial] = exchange
            most = 0.0
            for claim in reservation.claims:
                if claim.charged > most and claim.limit.unit == "tokens":
                    most = claim.charged
            self.counts.reserved += most
        return exchange.director.enter(exchange, now)

    def _refuse(self, exchange: "Exchange", now: float) -> Effect:
        assert exchange.standing is not None
        for held in exchange.standing.held:
            if held.refuses:
                _count(self.counts.refused, held.limit.name)
        exchange.reason = f"rate limit {exchange.standing.decisive.limit.name}"
        return exchange.reject(refusal(exchange.standing), now)

    # --- limits of all routers --------------------------------------------------------------

    def _ask(self, exchange: "Exchange", wanted: Wanted, now: float) -> Effect:
        reservation = exchange.reservation
        assert reservation is not None
        if self.dry:
            return self._admit(exchange, reservation, now)
        reservation.asked = wanted
        if self.shared is not None:
            reservation.ticket = self.shared.ask(exchange.serial, wanted[1])
        if reservation.ticket is None:
            return self.answered(exchange, None, now)
        exchange.state = _LIMITING
        return Wait(self._rules.timeout)

    def answered(
        self, exchange: "Exchange", verdicts: tuple[Verdict, ...] | None, now: float
    ) -> Effect:
        """The shared store has answered, or (None) will not."""
        reservation = exchange.reservation
        assert reservation is not None and reservation.asked is not None
        wanted, ticket = reservation.asked, reservation.ticket
        reservation.asked = reservation.ticket = None
        if verdicts is not None:
            assert ticket is not None
            allowed = self._hear(exchange, wanted, verdicts, ticket.ledger)
        else:
            if ticket is not None:
                ticket.withdraw()
            if self._rules.on_failure == "deny":
                return exchange.reject(
                    errors.LimitsUnknown(
                        "the store of the rate limits does not answer", retry_after=1
                    ),
                    now,
                )
            allowed = self._rules.on_failure == "allow" or self._share(exchange, wanted, now)
        if not allowed:
            return self._refuse(exchange, now)
        return self._admit(exchange, reservation, now)

    def _share(self, exchange: "Exchange", wanted: Wanted, now: float) -> bool:
        """Draw on this machine's part of limits that all routers share."""
        limits, draws = wanted
        parts = []
        for draw in draws:
            spec = self.part_of(draw.spec)
            parts.append(Draw(draw.key, spec, min(draw.amount, spec.capacity), draw.binding))
        return self._take(exchange, (limits, tuple(parts)), now)

    def part_of(self, spec: BucketSpec) -> BucketSpec:
        """One machine's part of a bucket: at least one token, or nobody could ever draw on it."""
        n = self._rules.machines
        return BucketSpec(max(1.0, spec.capacity / n), spec.fill_rate / n, spec.debt / n)

    # --- while it runs, and the end ---------------------------------------------------------

    def flush(self, now: float) -> None:
        """Charge this machine's buckets what requests that are over came to.

        Drivers call it every few milliseconds, and before they report and end.
        """
        self.counts.forgiven += self.store.flush(now)

    def debit(self, now: float) -> None:
        """Charge what running answers have come to beyond what was reserved for them.

        Drivers call it as often as they like and it acts every second, so that a long answer is
        felt by those who ask meanwhile; an answer of usual length costs nothing here.
        """
        if now < self._debit_due:
            return
        self._debit_due = now + DEBIT_INTERVAL
        for serial, exchange in self._streams.items():
            reservation = exchange.reservation
            if reservation is None or exchange.head_at is None or exchange.status >= 400:
                continue
            seen = self.meter.consumed(serial, usage=False)
            used = self._used(exchange.request, reservation, seen)
            self.counts.forgiven += reservation.debit(used, now)

    def settle(self, exchange: "Exchange", now: float) -> None:
        """The exchange is over: charge its limits what it came to."""
        reservation = exchange.reservation
        assert reservation is not None
        if reservation.ticket is not None:
            reservation.ticket.withdraw()
            reservation.ticket = None
        self._streams.pop(exchange.serial, None)
        used = 0.0
        if reservation.tokens and reservation.reached:
            used = self._spent(exchange, reservation)
            self.counts.charged += used
        reservation.settle(used, now)

    def _spent(self, exchange: "Exchange", reservation: Reservation) -> float:
        """LLM tokens of an exchange that is over and reached an endpoint.

        By the engine's usage, else by guess. An error without usage costs nothing; a client that
        left before the first byte has had its prompt computed.
        """
        seen = self.meter.consumed(exchange.serial, usage=True)
        if exchange.state is _DONE and exchange.flag == "-" and exchange.status < 400:
            self.estimator.learn(exchange.request, seen)
        if seen.prompt is None and (exchange.state is _REJECTED or exchange.status >= 400):
            return 0.0
        return self._used(exchange.request, reservation, seen)

    def _used(self, request: LlmRequest, reservation: Reservation, seen: Consumption) -> float:
        prompt = reservation.prompt if seen.prompt is None else float(seen.prompt)
        return prompt + self.estimator.answered(request, seen)

    def __repr__(self) -> str:
        return f"<Limiter active={self.active} streams={len(self._streams)} {self.store!r}>"


def _count(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= NAMES:
        name = "other"
    counts[name] = counts.get(name, 0) + 1
