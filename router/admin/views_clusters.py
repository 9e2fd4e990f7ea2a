"""Clusters and endpoints: what is configured, what is known, what an operator changed."""

import asyncio
from typing import Any, cast

import msgspec
from aiohttp import web

from router.admin.respond import AdminError, json_answer, not_found
from router.admin.view_forecasts import cluster_forecast, endpoint_forecast
from router.admin.view_queues import queues
from router.config.schema import redacted_value
from router.config.units import Duration
from router.control.drains import OnDeadline, tokens_left
from router.control.plane import ControlPlane
from router.control.priorities import levels
from router.control.roster import Standing
from router.core.cluster import Cluster
from router.core.model import AdminState
from router.telemetry.totals import Totals

PATCH_FIELDS = ("state", "weight", "ttl", "deadline", "on_deadline")
MAX_WEIGHT = 1_000_000


class ClusterViews:
    """Handlers under ``/clusters``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[web.RouteDef]:
        endpoint = "/clusters/{cluster}/endpoints/{endpoint}"
        return [
            web.get("/clusters", self.list),
            web.get("/clusters/{cluster}", self.cluster),
            web.get(endpoint, self.endpoint),
            web.patch(endpoint, self.patch),
            web.delete(endpoint + "/override", self.undo),
        ]

    async def list(self, request: web.Request) -> web.Response:
        plane = self._plane
        counts = self._counts()
        clusters = plane.store.snapshot.clusters.values()
        return json_answer(
            {
                "generation": plane.store.generation,
                "clusters": [self._cluster(cluster, counts) for cluster in clusters],
            }
        )

    async def cluster(self, request: web.Request) -> web.Response:
        cluster = self._find_cluster(request)
        return json_answer(self._cluster(cluster, self._counts()))

    async def endpoint(self, request: web.Request) -> web.Response:
        standing = self._find_endpoint(request)
        told = self._endpoint(standing, self._counts())
        if told["drain"] is not None:
            under_way = await self._plane.supervisor.requests(standing.endpoint.id)
            told["drain"] |= tokens_left(under_way)
        return json_answer(told)

    async def undo(self, request: web.Request) -> web.Response:
        """Take back whatever an operator changed."""
        standing = self._find_endpoint(request)
        configured = standing.endpoint.weight
        self._plane.set_endpoint(standing.endpoint.id, AdminState.READY, configured, None)
        return json_answer(self._endpoint(standing, self._counts()))

    async def patch(self, request: web.Request) -> web.Response:
        standing = self._find_endpoint(request)
        wanted = await _object(request)
        for field in wanted:
            if field not in PATCH_FIELDS:
                raise AdminError(
                    400,
                    f"unknown field {field!r}; known are {', '.join(PATCH_FIELDS)}",
                    param=field,
                )
        state, weight = _state(wanted), _weight(wanted)
        ttl, deadline = _duration(wanted, "ttl"), _duration(wanted, "deadline")
        if state is None and weight is None:
            raise AdminError(400, "give a state, a weight or both", param="state")
        if deadline is not None and state in (None, AdminState.READY):
            raise AdminError(400, "a deadline needs a state of drain or maint", param="deadline")
        self._plane.set_endpoint(
            standing.endpoint.id, state, weight, ttl, deadline, _on_deadline(wanted)
        )
        return json_answer(self._endpoint(standing, self._counts()))

    # --- finding ----------------------------------------------------------------------------

    def _find_cluster(self, request: web.Request) -> Cluster:
        name = request.match_info["cluster"]
        clusters = self._plane.store.snapshot.clusters
        if name not in clusters:
            raise not_found("cluster", name, clusters)
        return clusters[name]

    def _find_endpoint(self, request: web.Request) -> Standing:
        cluster = self._find_cluster(request)
        address = request.match_info["endpoint"]
        for endpoint in cluster.endpoints:
            if endpoint.address == address:
                return self._plane.roster.standings[endpoint.id]
        raise not_found("endpoint", address, [e.address for e in cluster.endpoints])

    # --- showing ----------------------------------------------------------------------------

    def _counts(self) -> "Counts":
        return Counts(self._plane.supervisor.totals())

    def _cluster(self, cluster: Cluster, counts: "Counts") -> dict[str, Any]:
        known = self._plane.roster.standings
        standings = [known[e.id] for e in cluster.endpoints]
        now = asyncio.get_running_loop().time()
        return {
            "name": cluster.name,
            "engine": cluster.engine,
            "models": cluster.models,
            "balancer": redacted_value(cluster.balancer),
            "circuit_breaker": msgspec.to_builtins(cluster.breaker),
            "health": msgspec.to_builtins(cluster.health),
            "outlier": self._plane.outliers.summary(cluster.name),
            "scrape": msgspec.to_builtins(cluster.scrape),
            "discovery": self._plane.discoverer.status(self._plane.store.config, cluster.name),
            "handover": self._handover(cluster.name, now),
            "in_flight": self._plane.in_flight(cluster.name),
            "queued": int(counts.totals.gauge("queue_depth", (cluster.name,))),
            "retrying": int(counts.totals.gauge("retries_in_flight", (cluster.name,))),
            "levels": levels(cluster, known, now),
            "session": msgspec.to_builtins(cluster.session),
            "locality_weights": dict(cluster.locality_weights),
            "queue": msgspec.to_builtins(cluster.queue)
            | {"breakers": queues(cluster, counts.totals, self._plane.in_flight)},
            "forecast": cluster_forecast(cluster, counts.totals),
            "usable": sum(1 for standing in standings if standing.usable),
            "endpoints": [self._endpoint(standing, counts) for standing in standings],
        }

    def _handover(self, cluster: str, now: float) -> dict[str, Any] | None:
        held = self._plane.handover.held.get(cluster)
        if held is None:
            return None
        kept = [str(endpoint.address) for endpoint in held.kept]
        return {"for": round(now - held.since, 3), "kept": kept}

    def _endpoint(self, standing: Standing, counts: "Counts") -> dict[str, Any]:
        endpoint = standing.endpoint
        events = self._plane.kv_events.seen(endpoint.id)
        now = asyncio.get_running_loop().time()
        return {
            "id": endpoint.id,
            "cluster": endpoint.cluster,
            "address": endpoint.address,
            "labels": dict(endpoint.labels),
            "role": endpoint.role,
            "priority": endpoint.priority,
            "locality": str(endpoint.locality),
            "state": standing.admin.name.lower(),
            "healthy": standing.healthy,
            "usable": standing.usable,
            "outlier": self._plane.outlier(standing),
            "pushed_back_for": _ago(max(now, standing.pushed_until), now),
            "weight": standing.weight,
            "configured_weight": endpoint.weight,
            "override": _override(standing, now),
            "drain": self._plane.drains.status(endpoint.id, now),
            "in_flight": self._plane.in_flight(endpoint.id),
            "outcomes": counts.outcomes.get((endpoint.cluster, endpoint.address), {}),
            "load": _load(standing, now),
            "forecast": endpoint_forecast(endpoint, counts.totals, events),
            "kv_events": events,
            "scrape_error": standing.scrape_error,
            "probe_error": standing.probe_error,
            "probed_ago": None if standing.probed_at is None else _ago(now, standing.probed_at),
        }


class Counts:
    """The workers' totals, with outcomes by (cluster, address): grouped once for all endpoints."""

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self.outcomes: dict[tuple[str, str], dict[str, int]] = {}
        rows = totals.counters.get("endpoint_requests_total", {})
        for (cluster, address, outcome), count in rows.items():
            self.outcomes.setdefault((cluster, address), {})[outcome] = int(count)


def _override(standing: Standing, now: float) -> dict[str, Any] | None:
    override = standing.override
    if override.empty:
        return None
    expires = override.expires_at
    return {
        "state": None if override.state is None else override.state.name.lower(),
        "weight": override.weight,
        "expires_in": None if expires is None else _ago(expires, now),
    }


def _load(standing: Standing, now: float) -> dict[str, Any] | None:
    load = standing.load
    if load is None:
        return None
    return {
        "running": load.running,
        "waiting": load.waiting,
        "kv_usage": load.kv_usage,
        "queued_prefill": load.queued_prefill,
        "capacity": load.capacity,
        "age": _ago(now, load.at),
        "fresh": standing.load_fresh,
    }


def _ago(later: float, earlier: float) -> float:
    return round(max(0.0, later - earlier), 3)


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(await request.read())
    except RecursionError:
        raise AdminError(400, "the body's JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminError(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise AdminError(400, "the body must be a JSON object")
    return value


def _state(wanted: dict[str, Any]) -> AdminState | None:
    if "state" not in wanted:
        return None
    words = {state.name.lower(): state for state in AdminState}
    state = wanted["state"]
    if not isinstance(state, str) or state not in words:
        raise AdminError(
            400, f"state must be one of {', '.join(words)}, not {state!r}", param="state"
        )
    return words[state]


def _weight(wanted: dict[str, Any]) -> int | None:
    if "weight" not in wanted:
        return None
    weight = wanted["weight"]
    if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
        raise AdminError(
            400,
            f"weight must be a whole number from 1 to {MAX_WEIGHT}, not {weight!r}",
            param="weight",
        )
    return weight


def _duration(wanted: dict[str, Any], field: str) -> float | None:
    if field not in wanted:
        return None
    given = wanted[field]
    try:
        seconds = float(Duration.parse(given)) if isinstance(given, str) else 0.0
    except ValueError as error:
        raise AdminError(400, f"{field}: {error}", param=field) from None
    if seconds <= 0:
        raise AdminError(400, f"{field} must be a duration such as 10m, not {given!r}", param=field)
    return seconds


def _on_deadline(wanted: dict[str, Any]) -> OnDeadline:
    given = wanted.get("on_deadline", "cancel")
    if given not in ("cancel", "undo"):
        raise AdminError(
            400, f"on_deadline must be cancel or undo, not {given!r}", param="on_deadline"
        )
    if "on_deadline" in wanted and "deadline" not in wanted:
        raise AdminError(400, "on_deadline needs a deadline", param="deadline")
    return cast(OnDeadline, given)
