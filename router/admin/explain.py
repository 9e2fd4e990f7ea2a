"""``POST /explain``: where a request would go now, and why; nothing is sent and nothing changes.

Control knows what the workers act on: health and load reports, operators' overrides, and on the
shared board the attempts in flight, the bucket levels and where conversations went. How a body is
read is the data plane's business, so the composition root hands in the function that does it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from aiohttp import web

from router.admin.respond import AdminError, json_answer
from router.control.plane import ControlPlane
from router.core.errors import RouterError
from router.core.explain import Known, World, explain, refused
from router.core.explanation import BadDescription, Description, OwnAnswer
from router.core.forecast.seen import ForecastSeen
from router.core.model import LlmRequest, Priority
from router.core.snapshot import Snapshot
from router.telemetry.totals import Totals

Describe = Callable[[Description, Snapshot], LlmRequest]

VIEW = "of the running router: health, load, places, buckets and conversations as control sees them"
PREDICTED = "; prompts in line and in caches as a worker does"
UNPREDICTED = "; no worker told of prompts in line and in caches"

_Short = Annotated[str, msgspec.Meta(max_length=65536)]


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a call. ``body``: the request's own; a text is taken as its very bytes, a JSON
    value as it is written there."""

    method: Annotated[str, msgspec.Meta(pattern="^[A-Z]{1,32}$")] = "POST"
    path: Annotated[str, msgspec.Meta(pattern="^/[!-~]*$", max_length=8192)] = (
        "/v1/chat/completions"
    )
    headers: dict[_Short, _Short] = {}
    client: _Short = "127.0.0.1"
    model: _Short | None = None
    user: _Short | None = None
    prompt: str | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tenant: _Short | None = None
    priority: Literal["low", "normal", "high"] = "normal"
    body: msgspec.Raw = msgspec.Raw(b"")
    seed: int = 1


class ExplainViews:
    """Handler of ``/explain``."""

    def __init__(self, plane: ControlPlane, describe: Describe) -> None:
        self._plane = plane
        self._describe = describe

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/explain", self.explain)]

    async def explain(self, request: web.Request) -> web.Response:
        question = _question(await request.read())
        snapshot = self._plane.store.snapshot
        # A large table takes a while to build, and probes and reports are not to wait for it.
        asked = await asyncio.to_thread(self._read, question, snapshot)
        if isinstance(asked, RouterError):
            return json_answer(refused(asked, VIEW))
        forecasts = await self._forecasts(snapshot, asked)
        world = view(self._plane, snapshot, forecasts)
        rng = random.Random(question.seed)
        return json_answer(await asyncio.to_thread(explain, snapshot, asked, rng, world))

    def _read(self, question: Question, snapshot: Snapshot) -> LlmRequest | RouterError:
        """The request, or why it is refused before any route is looked at."""
        words = Description(
            method=question.method,
            path=question.path,
            headers=tuple(question.headers.items()),
            client=question.client,
            model=question.model,
            user=question.user,
            prompt=question.prompt,
            max_tokens=question.max_tokens,
            tenant=question.tenant,
            priority=question.priority,
            body=_body(question),
        )
        try:
            return self._describe(words, snapshot)
        except RouterError as error:
            return error
        except BadDescription as error:
            raise AdminError(400, str(error), param=error.param) from None
        except OwnAnswer as own:
            raise AdminError(400, str(own), param="path", code="own_answer") from None

    async def _forecasts(
        self, snapshot: Snapshot, asked: LlmRequest
    ) -> dict[str, ForecastSeen] | None:
        """What a worker predicts for the request; None if it should, and none answers."""
        predicting = tuple(
            name for name, cluster in snapshot.clusters.items() if cluster.balancer.reads_prompt
        )
        return await self._plane.supervisor.forecasts(predicting, asked) if predicting else {}


def view(
    plane: ControlPlane, snapshot: Snapshot, forecasts: dict[str, ForecastSeen] | None
) -> World:
    """What control knows at this moment, copied, but for tables too large to be."""
    now = asyncio.get_running_loop().time()
    standings = plane.roster.standings
    clusters = snapshot.clusters.values()
    endpoints = [endpoint.id for endpoint in snapshot.endpoints()]
    rows = {key: plane.slots.get(key) for c in clusters for key in c.rows()}
    rows |= {id_: plane.slots.get(id_) for id_ in endpoints}
    keys = [*(name for cluster in clusters for name, _ in cluster.pools()), *endpoints]
    totals = plane.supervisor.totals()
    return World(
        view=VIEW + (UNPREDICTED if forecasts is None else PREDICTED if forecasts else ""),
        now=now,
        known={
            id_: Known(
                admin=standing.admin,
                healthy=standing.healthy is not False,
                ejected=standing.ejected,
                weight=standing.override.weight,
                load=standing.load,
                load_fresh=standing.load_fresh,
                pushed_until=standing.pushed_until,
            )
            for id_, standing in standings.items()
        },
        in_flight={key: plane.in_flight(key) for key in keys},
        waiting=_waiting(totals, snapshot),
        drain={
            pool: rate
            for cluster in snapshot.clusters.values()
            for pool, _ in cluster.pools()
            if (rate := totals.gauge("queue_drain_rate", (cluster.name, cluster.breaker_of(pool))))
        },
        # A row that is not assigned is one that nobody counts in.
        slots={key: -1 - n if row is None else row for n, (key, row) in enumerate(rows.items())},
        affinity=plane.board.affinity(),
        sessions=plane.board.sessions(),
        level=plane.board.buckets().level,
        forecasts=forecasts or {},
    )


def _waiting(totals: Totals, snapshot: Snapshot) -> dict[str, dict[int, int]]:
    """Who waits, by the name of a cluster's places and by priority."""
    return {
        pool: {
            priority: int(totals.gauge("queue_waiting", (cluster.name, breaker, name)))
            for priority, name in ((p, p.name.lower()) for p in Priority)
        }
        for cluster in snapshot.clusters.values()
        for pool, breaker in ((name, cluster.breaker_of(name)) for name, _ in cluster.pools())
    }


def _question(raw: bytes) -> Question:
    try:
        return msgspec.json.decode(raw, type=Question)
    except msgspec.ValidationError as error:
        told, field = str(error).partition(" - at `")[0], _field(str(error))
        raise AdminError(400, f"{field}: {told}" if field else told, param=field) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdminError(400, f"the body is not JSON: {error}") from None


def _field(message: str) -> str | None:
    _, _, path = message.partition(" - at `$.")
    return path.rstrip("`") or None


def _body(question: Question) -> bytes | None:
    raw = bytes(question.body)
    if not raw or raw == b"null":
        return None
    return msgspec.json.decode(raw, type=str).encode() if raw[:1] == b'"' else raw
