"""The control plane's parts in one place, and the one way in which a configuration comes in force.

Validate, build, give rows on the board, swap: whatever fails before the swap leaves the last good
configuration in force everywhere. After it, workers, probes, scrapes and the model list follow.
"""

import asyncio
import os
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from router.config.build import build
from router.config.clusters import EndpointSpec
from router.config.findings import ConfigError
from router.config.gossip import beyond, channel
from router.config.schema import Config, encode
from router.control.board import DEFAULT_ROWS, DEFAULT_WORDS, Board, create_file
from router.control.breaker_watch import BreakerWatch
from router.control.discovery.discoverer import Discoverer
from router.control.drains import Drains, OnDeadline
from router.control.engine_client import EngineClient
from router.control.gossip_relay import GossipRelay
from router.control.handover import Handover, Plan
from router.control.issuer_keys import IssuerKeys
from router.control.journal import Journal
from router.control.kv_events.watch import KvEventWatch
from router.control.material import MaterialWatch, read_material, token_digests
from router.control.mesh import Mesh
from router.control.messages import CancelAt, Material, SnapshotUpdate
from router.control.models import ModelCatalog
from router.control.outliers import OutlierWatch
from router.control.own_counts import add_own
from router.control.priorities import PriorityWatch
from router.control.probes import Prober
from router.control.roster import Roster, Standing
from router.control.scrape import Scraper
from router.control.slots import BoardFull, SlotTable
from router.control.sockets import ReservedAddress
from router.control.store import ConfigStore
from router.control.store_watch import StoreWatch
from router.control.supervisor import Supervisor
from router.control.trust_watch import TrustWatch
from router.core.model import AdminState
from router.core.snapshot import Snapshot
from router.telemetry.access_writer import AccessWriter
from router.telemetry.logs import logger
from router.telemetry.page import MetricsPage
from router.telemetry.totals import Totals

SETTLE = 10.0
"""Seconds that the workers have to take a new generation."""
LOOK_INTERVAL = 0.5


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted reload did. ``refused_by``: reasons of workers that kept the old one."""

    generation: int
    changes: tuple[str, ...]
    needs_restart: tuple[str, ...]
    refused_by: tuple[str, ...] = ()


class ControlPlane:
    """Everything that control knows and does, apart from its own HTTP pages.

    Args:
        store: holds an accepted configuration.
        addresses: reserved listening addresses.
        access: where access log lines go; None: nowhere.
        workers: how many processes.
        report_interval: seconds between two reports of a worker.
        rng: spreads probes and scrapes.
    """

    def __init__(
        self,
        store: ConfigStore,
        addresses: Sequence[ReservedAddress],
        *,
        workers: int,
        access: AccessWriter | None = None,
        report_interval: float = 0.5,
        rng: random.Random | None = None,
    ) -> None:
        self.store = store
        self.addresses = tuple(addresses)
        self.roster = Roster()
        self.journal = Journal()
        self.failing = False
        self.ending = False
        self.started_at = asyncio.get_running_loop().time()
        self._access = access
        self._board_fd = create_file(DEFAULT_ROWS, workers, DEFAULT_WORDS)
        self.board = Board(self._board_fd, DEFAULT_ROWS, workers, DEFAULT_WORDS)
        self.mesh = Mesh(workers)
        self.relay = GossipRelay(self.mesh)
        self.slots = SlotTable(DEFAULT_ROWS, lambda row: self.board.total(row) == 0)
        rng = rng if rng is not None else random.Random()
        self.client = EngineClient()
        self.kv_events = KvEventWatch(self.client, self.roster, rng, self.journal.add)
        self.supervisor = Supervisor(
            workers,
            self.board,
            self._board_fd,
            self.mesh,
            self.addresses,
            access_lines=self._access_lines,
            host_states=self.roster.updates,
            suspected=self._suspected,
            pushed_back=self._pushed_back,
            tips_seen=self.kv_events.tips_seen,
            greet=self.kv_events.greet,
            tell=self.journal.add,
            report_interval=report_interval,
        )
        self.outliers = OutlierWatch(
            self.roster, self.supervisor.totals, self._forget_failures, rng, self.journal.add
        )
        self.prober = Prober(
            self.client, self.roster, rng, self.outliers.passed_health_check, self.journal.add
        )
        self.scraper = Scraper(self.client, self.roster, rng)
        self.catalog = ModelCatalog(self.client, self.roster, self.supervisor.set_models)
        self.handover = Handover(self.roster, self.journal.add)
        self.discoverer = Discoverer(self._members_changed, tell=self.journal.add)
        self.drains = Drains(self.roster, self.in_flight, self._cancel_at, self.journal.add)
        self.priorities = PriorityWatch(self.roster, self.journal.add)
        self.breakers = BreakerWatch(self.journal.add, self.in_flight, self.supervisor.totals)
        self._stores = StoreWatch(self.supervisor.reports)
        self._trust = TrustWatch(self.journal.add, self.supervisor.reports)
        self.certificates = MaterialWatch(
            lambda: self.store.config, self._certificates_changed, tell=self.journal.add
        )
        self.issuers = IssuerKeys(self.supervisor.set_key_sets)
        self._material = Material()
        self.metrics = MetricsPage(self.totals)
        self._served: Config | None = None
        self._revision = 0
        self.reloads = {"accepted": 0, "refused": 0}
        self._reloading = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._log = logger("control")

    async def start(self) -> None:
        """Bring the store's configuration in force and start the workers.

        Raises:
            StartFailed: the workers cannot serve it.
            BoardFull: it names too many endpoints.
        """
        await self.client.__aenter__()
        await self.discoverer.prepare(self.store.config, self._endpoints_of)
        resolved = self._planned(self.store.config).config
        snapshot = build(resolved, self.store.generation)
        self.certificates.mark()
        update = self._update(resolved, snapshot, 0, read_material(self.store.config))
        self.store.snapshot = snapshot
        self._material = update.material
        self._served = resolved
        self.roster.reconcile(snapshot.endpoints())
        self.roster.subscribe(self.supervisor.hosts_changed)
        self._looking = asyncio.create_task(self._look_around())
        self._follow(snapshot)
        self.certificates.start()
        await self.supervisor.start(update)

    async def reload(self) -> Reloaded:
        """Read the configuration again and bring it in force.

        Raises:
            ConfigError: it is not usable; the present one stays.
            BoardFull: it names too many endpoints; the present one stays.
        """
        async with self._reloading:
            try:
                proposal = await asyncio.to_thread(self.store.propose)
                await self.discoverer.prepare(proposal.config, self._endpoints_of)
                plan, snapshot = self._planned(proposal.config), proposal.snapshot
                if plan.config is not proposal.config:
                    snapshot = build(plan.config, snapshot.generation)
                self.certificates.mark()
                material = await asyncio.to_thread(read_material, proposal.config)
                update = self._update(plan.config, snapshot, 0, material)
            except BaseException as error:
                self.reloads["refused"] += 1
                self.journal.add("reload", accepted=False, error=str(error))
                self.discoverer.reconcile(self.store.config)
                raise
            self.store.accept(proposal)
            self.reloads["accepted"] += 1
            self.discoverer.reconcile(proposal.config)
            self._bring(plan, snapshot, update)
            try:
                refused = await self.supervisor.settled(SETTLE)
            except TimeoutError:
                refused = [f"not all workers answered within {SETTLE:g}s"]
            reloaded = Reloaded(
                generation=proposal.snapshot.generation,
                changes=proposal.changes,
                needs_restart=proposal.needs_restart,
                refused_by=tuple(refused),
            )
            self.journal.add("reload", accepted=True, **msgspec.structs.asdict(reloaded))
            self._log.info("configuration reloaded", **msgspec.structs.asdict(reloaded))
            return reloaded

    def _members_changed(self) -> None:
        """Bring discovered endpoints in force: a revision of the present generation."""
        if self._served is None:
            return  # the start takes them along
        store = self.store
        try:
            plan = self._planned(store.config)
            if plan.config == self._served:
                return
            snapshot = build(plan.config, store.generation)
            update = self._update(plan.config, snapshot, self._revision + 1, self._material)
        except (ConfigError, BoardFull) as error:
            self._log.error("the discovered endpoints cannot be used", error=str(error))
            return
        self._bring(plan, snapshot, update)

    def _certificates_changed(self, material: Material) -> None:
        """Bring renewed certificates in force, also as a revision of the present generation."""
        if material != self._material and self._served is not None:
            snapshot = self.store.snapshot
            update = self._update(self._served, snapshot, self._revision + 1, material)
            self._bring(Plan(config=self._served, held=self.handover.held), snapshot, update)

    def _endpoints_of(self, cluster: str) -> tuple[EndpointSpec, ...]:
        """What is to serve a cluster, as far as is known."""
        return self.handover.wanted(cluster, self._served)

    def _planned(self, config: Config) -> Plan:
        """What is to serve under a configuration: with what was discovered, and who has to stay."""
        found, now = self.discoverer.resolve(config), asyncio.get_running_loop().time()
        return self.handover.plan(self._served, found, now)

    def _update(
        self, resolved: Config, snapshot: Snapshot, revision: int, material: Material
    ) -> SnapshotUpdate:
        keys = [row for cluster in snapshot.clusters.values() for row in cluster.rows()]
        keys += [endpoint.id for endpoint in snapshot.endpoints()]
        return SnapshotUpdate(
            generation=snapshot.generation,
            revision=revision,
            config=encode(resolved),
            slots=self.slots.assign(keys),
            explain_to=token_digests(resolved.admin),
            material=material,
        )

    def _bring(self, plan: Plan, snapshot: Snapshot, update: SnapshotUpdate) -> None:
        """The swap. Nothing in here waits, so a reload and a discovery cannot mix."""
        self.handover.bring(plan, asyncio.get_running_loop().time())
        self.store.snapshot = snapshot
        self._served = plan.config
        self._revision = update.revision
        self._material = update.material
        self.roster.reconcile(snapshot.endpoints())
        self.supervisor.set_snapshot(update)
        self._follow(snapshot)

    def _follow(self, snapshot: Snapshot) -> None:
        self.client.follow(snapshot, self._material)
        self.issuers.reconcile(self.store.config.auth)
        self.outliers.reconcile(snapshot)
        self.prober.reconcile(snapshot)
        self.scraper.reconcile(snapshot)
        self.kv_events.reconcile(snapshot)
        self.catalog.reconcile(snapshot)
        self.relay.follow(beyond(self.store.config), channel(self.store.config))

    # --- what an operator does --------------------------------------------------------------

    def set_endpoint(
        self,
        id_: str,
        state: AdminState | None,
        weight: int | None,
        ttl: float | None,
        deadline: float | None = None,
        on_deadline: OnDeadline = "cancel",
    ) -> None:
        """Override an endpoint's state or weight, at most for ``ttl`` seconds.

        Args:
            deadline: seconds after which a drain that is not over is ended as ``on_deadline`` says.

        Raises:
            KeyError: no such endpoint.
            ValueError: weight below 1.
        """
        now = asyncio.get_running_loop().time()
        expires = None if ttl is None else now + ttl
        self.roster.override(id_, state=state, weight=weight, expires_at=expires)
        self.supervisor.flush()
        standing = self.roster.standings[id_]
        self.journal.add(
            "override",
            endpoint=id_,
            state=standing.admin.name.lower(),
            weight=standing.weight,
            ttl=ttl,
        )
        if state is not None:
            self.drains.follow(id_, now, deadline, on_deadline)

    def fail_readiness(self, failing: bool, *, for_good: bool = False) -> None:
        """Take the router out of its load balancer's rotation, or put it back.

        Args:
            for_good: the router is ending; it cannot be put back.

        Raises:
            RuntimeError: it was taken out for good.
        """
        if self.ending and not failing:
            raise RuntimeError("the router is shutting down")
        self.ending = self.ending or for_good
        if failing is not self.failing or for_good:
            state = "ending" if self.ending else "draining" if failing else "accepting"
            self.journal.add("router", state=state)
        self.failing = failing
        self.supervisor.announce(failing)

    async def _look_around(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            for id_ in self.roster.expire(loop.time()):
                self._log.info("override expired", endpoint=id_)
                self.journal.add("override", endpoint=id_, state="expired")
            self.drains.look(loop.time())
            if self.handover.held:
                self._members_changed()
            self.priorities.look(self.store.snapshot)
            self.breakers.look(self.store.snapshot.clusters.values())
            self._stores.look(self.store.config.redis)
            self._trust.look()

    def _cancel_at(self, id_: str, reason: str) -> None:
        self.supervisor.broadcast(CancelAt(endpoint=id_, reason=reason))

    def _suspected(self, id_: str, detector: str) -> None:
        self.outliers.suspected(id_, detector)
        self.supervisor.flush()  # each millisecond is more requests into the fault

    def _pushed_back(self, id_: str, until: float) -> None:
        self.roster.set_pushed(id_, until)
        self.supervisor.flush()

    def _forget_failures(self, id_: str) -> None:
        if (slot := self.slots.get(id_)) is not None:
            self.board.failure_words[slot] = 0

    # --- what is asked of it ------------------------------------------------------------------

    def in_flight(self, key: str) -> int:
        """Attempts under way at an endpoint, or in a cluster, at this moment."""
        slot = self.slots.get(key)
        return 0 if slot is None else self.board.total(slot)

    def outlier(self, standing: Standing) -> dict[str, Any] | None:
        """What outlier detection holds of an endpoint, None where it is off."""
        slot = self.slots.get(standing.endpoint.id)
        word = None if slot is None else self.board.failure_words[slot]
        return self.outliers.shown(standing, word, asyncio.get_running_loop().time())

    def readiness(self) -> list[tuple[str, bool, str]]:
        """Named conditions, whether each holds, and its state in words."""
        ready, count = self.supervisor.ready, self.supervisor.count
        started = self.supervisor.settled_version > (0, 0)
        clusters = self.store.snapshot.clusters
        proven = [  # who has passed a health check, where there are any
            one.up and (one.healthy is True or clusters[one.endpoint.cluster].health is None)
            for one in self.roster.standings.values()
        ]
        return [
            ("config", True, f"generation {self.store.generation}"),
            # All of them once; later one that is being replaced is no reason to send all away.
            ("workers", started and ready > 0, f"{ready} of {count} serve"),
            ("endpoints", any(proven), f"{sum(proven)} of {len(proven)} usable"),
            ("not draining", not self.failing, "draining" if self.failing else "accepting"),
        ]

    @property
    def ready(self) -> bool:
        return all(holds for _, holds, _ in self.readiness())

    def totals(self) -> Totals:
        """The metrics of this moment: the workers' sums and control's own."""
        totals = self.supervisor.totals()
        add_own(totals, self, asyncio.get_running_loop().time())
        return totals

    @property
    def lines_dropped(self) -> int:
        """Lines of the access log for which there was no room here."""
        return self._access.dropped if self._access is not None else 0

    async def requests(self) -> list[dict[str, Any]]:
        """Exchanges under way, each with an ``id`` that :meth:`cancel` takes."""
        found = await self.supervisor.requests()
        return [{**r, "id": f"{r['worker']}-{r['serial']}", "request_id": r["id"]} for r in found]

    async def cancel(self, id_: str) -> bool:
        """End one exchange with an error; False if there is none of this id."""
        worker, _, serial = id_.partition("-")
        if not (worker.isascii() and worker.isdigit() and serial.isascii() and serial.isdigit()):
            return False
        return await self.supervisor.cancel(int(worker), int(serial))

    # --- the end ----------------------------------------------------------------------------

    async def close(self) -> None:
        """End what still runs and free everything but the addresses."""
        if not self.supervisor.ended:
            await self.supervisor.abort("the router is shutting down")
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self.certificates.close()
        await self.issuers.close()
        watches = (self.outliers, self.prober, self.scraper, self.kv_events, self.catalog)
        for part in (self.discoverer, *watches):
            await part.close()
        await self.client.__aexit__()
        self.board.close()
        await self.relay.close()
        self.mesh.close()
        os.close(self._board_fd)

    def _access_lines(self, lines: bytes) -> None:
        if self._access is not None:
            self._access.write(lines)

    def __repr__(self) -> str:
        return f"<ControlPlane {self.store!r} {self.roster!r} {self.supervisor!r}>"
