"""``GET /limits``: every rate limit, how often it refused, and what its bucket holds.

A limit with descriptors has a bucket for each of their values, which are kept as hashes and cannot
be listed. Whose bucket is meant is said in the query: ``/limits?tenant=a&model=m``,
``/limits?header:x-team=red``.
"""

import asyncio
from typing import Any

from aiohttp import web

from router.admin.respond import AdminError, json_answer
from router.control.plane import ControlPlane
from router.core.admission.rate_limit import RateLimit
from router.core.model import LlmRequest
from router.telemetry.totals import Totals

FIELDS = ("tenant", "model", "user", "address")
"""What the query may name, besides ``header:NAME``. A key does not belong in a URL."""


class LimitViews:
    """Handler of ``/limits``."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/limits", self.limits)]

    async def limits(self, request: web.Request) -> web.Response:
        asked = _asked(dict(request.query))
        snapshot = self._plane.store.snapshot
        totals = self._plane.supervisor.totals()
        owners: list[tuple[str, str, tuple[RateLimit, ...]]] = [
            *(("route", route.name, route.limits) for route in snapshot.routes.routes),
            *(("cluster", name, cluster.limits) for name, cluster in snapshot.clusters.items()),
            *(("tenant", name, limits) for name, limits in snapshot.tenant_limits.items()),
        ]
        nobody = dict.fromkeys(("route", "cluster", "tenant"))
        found = [
            self._limit(limit, nobody | {kind: name}, asked, totals)
            for kind, name, limits in owners
            for limit in limits
        ]
        tokens = totals.counters.get("limited_tokens_total", {})
        return json_answer(
            {"limits": found, "tokens": {name: round(n) for (name,), n in sorted(tokens.items())}}
        )

    def _limit(
        self, limit: RateLimit, owner: dict[str, Any], asked: LlmRequest, totals: Totals
    ) -> dict[str, Any]:
        key = limit.key(asked) if limit.scope == "machine" else None
        now = asyncio.get_running_loop().time()
        level = None if key is None else self._plane.board.buckets().level(key, limit.bucket, now)
        bucket = limit.bucket
        return {
            "name": limit.name,
            **owner,
            "unit": limit.unit,
            "per": [str(descriptor) for descriptor in limit.per],
            "scope": limit.scope,
            "enforce": limit.enforce,
            "burst": bucket.capacity,
            "per_second": bucket.fill_rate,
            "debt": bucket.debt,
            "remaining": None if level is None else round(level, 3),
            "refused": int(totals.counter("rate_limited_total", (limit.name, "true"))),
            "let_pass": int(totals.counter("rate_limited_total", (limit.name, "false"))),
        }


def _asked(query: dict[str, str]) -> LlmRequest:
    """A request that has what the query names."""
    headers = []
    for name, value in query.items():
        if name.startswith("header:"):
            headers.append((name[7:].lower().encode(), value.encode()))
        elif name not in FIELDS:
            known = ", ".join(FIELDS)
            raise AdminError(400, f"unknown {name!r}; known are {known}, header:NAME", param=name)
    return LlmRequest(
        id="-",
        method="POST",
        path="/",
        headers=tuple(headers),
        client=query.get("address", ""),
        tenant=query.get("tenant"),
        model=query.get("model"),
        user=query.get("user"),
    )
