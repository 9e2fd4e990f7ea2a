"""What control knows of each endpoint, apart from the configuration.

Four sources write here: the operator (overrides), the probes (health), outlier detection
(ejections) and the scraper (load).
Whoever must tell the workers subscribes. Overrides outlive reloads, also of a configuration that
for a while lacks the endpoint, and may expire; all are gone when the router is restarted.
"""

from collections.abc import Callable, Iterable

import msgspec

from router.control.messages import HostUpdate
from router.core.load import LoadReport
from router.core.model import AdminState, Endpoint

MAX_OVERRIDES = 4096


class Override(msgspec.Struct, kw_only=True):
    """What an operator changed. None: as configured. ``expires_at``: monotonic seconds."""

    state: AdminState | None = None
    weight: int | None = None
    expires_at: float | None = None

    @property
    def empty(self) -> bool:
        return self.state is None and self.weight is None


class Standing:
    """One endpoint as control sees it.

    Attributes:
        healthy: last verdict of the probes; None before the first, or without probes.
        ejected: outlier detection keeps it out of rotation.
        probe_error, scrape_error: what went wrong last time, None after a success.
        load: the engine's last report, also when it is too old to be used.
        pushed_until: before then it wants no new request, monotonic seconds; 0: it never said so.
    """

    __slots__ = (
        "ejected",
        "endpoint",
        "healthy",
        "load",
        "load_fresh",
        "override",
        "probe_error",
        "probed_at",
        "pushed_until",
        "scrape_error",
    )

    def __init__(self, endpoint: Endpoint, override: Override) -> None:
        self.endpoint = endpoint
        self.override = override
        self.healthy: bool | None = None
        self.ejected = False
        self.probe_error: str | None = None
        self.probed_at: float | None = None
        self.load: LoadReport | None = None
        self.load_fresh = False
        self.scrape_error: str | None = None
        self.pushed_until = 0.0

    @property
    def admin(self) -> AdminState:
        if self.override.state is not None:
            return self.override.state
        return AdminState.DRAIN if self.endpoint.draining else AdminState.READY

    @property
    def weight(self) -> int:
        return self.endpoint.weight if self.override.weight is None else self.override.weight

    @property
    def up(self) -> bool:
        """Whether nobody says that it cannot serve; it may yet be ejected."""
        return self.admin is AdminState.READY and self.healthy is not False

    @property
    def usable(self) -> bool:
        """Whether it may be given new requests."""
        return self.up and not self.ejected

    def update(self) -> HostUpdate:
        return HostUpdate(
            id=self.endpoint.id,
            admin=int(self.admin),
            healthy=self.healthy is not False,
            ejected=self.ejected,
            weight=self.override.weight,
            load=self.load if self.load_fresh else None,
            pushed_until=self.pushed_until,
        )

    def __repr__(self) -> str:
        health = {None: "unprobed", True: "healthy", False: "unhealthy"}[self.healthy]
        return f"<Standing {self.endpoint.id} {self.admin.name.lower()} {health}>"


class Roster:
    """``EndpointId -> Standing`` for the configuration in force."""

    def __init__(self) -> None:
        self.standings: dict[str, Standing] = {}
        self._overrides: dict[str, Override] = {}
        self._subscribers: list[Callable[[tuple[HostUpdate, ...]], None]] = []

    def subscribe(self, told: Callable[[tuple[HostUpdate, ...]], None]) -> None:
        """Call ``told`` with every change from now on."""
        self._subscribers.append(told)

    def reconcile(self, endpoints: Iterable[Endpoint]) -> None:
        """Follow a reload: survivors keep what was learned of them.

        Who is no longer drained is told of at once, before what else is new: the others may be
        gone with it.
        """
        previous = self.standings
        self.standings = {}
        turned = []
        for endpoint in endpoints:
            standing = previous.get(endpoint.id)
            if standing is None:
                standing = Standing(endpoint, self._overrides.get(endpoint.id, Override()))
            elif standing.endpoint.draining is not endpoint.draining:
                turned.append(standing)
            standing.endpoint = endpoint
            self.standings[endpoint.id] = standing
        for standing in turned:
            self.changed(standing)

    def wanted_state(self, id_: str) -> AdminState | None:
        """What an operator made of an endpoint, here or not; None: nothing."""
        override = self._overrides.get(id_)
        return None if override is None else override.state

    def updates(self) -> tuple[HostUpdate, ...]:
        """Everything, for a worker that starts."""
        return tuple(standing.update() for standing in self.standings.values())

    def override(
        self,
        id_: str,
        *,
        state: AdminState | None = None,
        weight: int | None = None,
        expires_at: float | None = None,
    ) -> Standing:
        """Change what an operator wants of an endpoint; None leaves a field as it is.

        READY takes an override of the state back, and so does the configured weight for that of
        the weight. ``expires_at`` replaces any earlier expiry, of the whole override.

        Raises:
            KeyError: no such endpoint.
            ValueError: weight below 1.
        """
        standing = self.standings[id_]
        override = standing.override
        if weight is not None:
            if weight < 1:
                raise ValueError(f"weight must be at least 1, not {weight}")
            override.weight = None if weight == standing.endpoint.weight else weight
        if state is not None:
            override.state = None if state is AdminState.READY else state
        override.expires_at = None if override.empty else expires_at
        self._remember(id_, override)
        self.changed(standing)
        return standing

    def expire(self, now: float) -> list[str]:
        """Take back the overrides whose time is over; returns their endpoints' ids."""
        due = [
            id_
            for id_, override in self._overrides.items()
            if override.expires_at is not None and override.expires_at <= now
        ]
        for id_ in due:
            override = self._overrides.pop(id_)
            override.state = override.weight = override.expires_at = None
            if (standing := self.standings.get(id_)) is not None:
                self.changed(standing)
        return due

    def set_health(self, standing: Standing, healthy: bool) -> None:
        if standing.healthy is not healthy:
            standing.healthy = healthy
            self.changed(standing)

    def set_ejected(self, standing: Standing, ejected: bool) -> None:
        if standing.ejected is not ejected:
            standing.ejected = ejected
            self.changed(standing)

    def set_pushed(self, id_: str, until: float) -> None:
        """A worker was told by the endpoint to come again later."""
        standing = self.standings.get(id_)
        if standing is not None and until > standing.pushed_until:
            standing.pushed_until = until
            self.changed(standing)

    def set_load(self, standing: Standing, load: LoadReport | None, fresh: bool) -> None:
        """A new report, or that the present one is no longer fresh."""
        if load is None and standing.load_fresh is fresh:
            return
        if load is not None:
            standing.load = load
        standing.load_fresh = fresh
        self.changed(standing)

    def changed(self, standing: Standing) -> None:
        if self.standings.get(standing.endpoint.id) is standing:
            updates = (standing.update(),)
            for told in self._subscribers:
                told(updates)

    def _remember(self, id_: str, override: Override) -> None:
        if override.empty:
            self._overrides.pop(id_, None)
            return
        self._overrides[id_] = override
        if len(self._overrides) > MAX_OVERRIDES:
            absent = next((k for k in self._overrides if k not in self.standings), None)
            if absent is not None:
                del self._overrides[absent]

    def __repr__(self) -> str:
        return f"<Roster {len(self.standings)} endpoints, {len(self._overrides)} overrides>"
