"""``GET /v1/models`` of all engines as one list.

Every endpoint is asked now and then, and soon after it failed to answer; what it said last stands
until it leaves the configuration, for a model whose engines are down is known all the same (503,
not 404). Entries keep every field that the engine sent. Models that the configuration names and
no engine listed are added; ids that no route takes are left out.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from router.control.engine_client import EngineClient, EngineUnreachable
from router.control.messages import Models
from router.control.roster import Roster, Standing
from router.control.watches import Watches
from router.core.model import AdminState
from router.core.snapshot import Snapshot

INTERVAL = 30.0
RETRY = 2.0
TIMEOUT = 5.0
PATH = "/v1/models"
MAX_MODELS = 10_000
MAX_LABELS = 256
"""Models that metrics tell apart; the operator's engines name them, not clients."""

Entry = dict[str, Any]


class _Listing(msgspec.Struct):
    data: list[Entry]


_decode_listing = msgspec.json.Decoder(_Listing).decode


class ModelCatalog:
    """Keeps the list and publishes its encoded form.

    Args:
        publish: takes the answer and its models whenever they may have changed.
    """

    def __init__(
        self, client: EngineClient, roster: Roster, publish: Callable[[Models], None]
    ) -> None:
        self._client = client
        self._roster = roster
        self._publish = publish
        self._listings: dict[str, list[Entry]] = {}
        self._snapshot: Snapshot | None = None
        self._watches = Watches("models", self._watch)

    def reconcile(self, snapshot: Snapshot) -> None:
        """Follow a new configuration and publish at once."""
        self._snapshot = snapshot
        standings = self._roster.standings
        self._listings = {id_: said for id_, said in self._listings.items() if id_ in standings}
        self._watches.reconcile({id_: (s, s.endpoint.address) for id_, s in standings.items()})
        self._publish(self.listing())

    async def close(self) -> None:
        await self._watches.close()

    async def _watch(self, standing: Standing, address: str) -> None:
        while True:
            answered = False
            if standing.admin is not AdminState.MAINT:
                answered = await self._ask(standing)
            await asyncio.sleep(INTERVAL if answered else RETRY)

    async def _ask(self, standing: Standing) -> bool:
        try:
            status, body = await self._client.get(standing.endpoint, PATH, TIMEOUT)
        except EngineUnreachable:
            return False
        if status == 404:
            return True  # not every server lists its models
        try:
            listing = _decode_listing(body).data if status == 200 else None
        except msgspec.DecodeError:
            return False
        if listing is None:
            return False
        id_ = standing.endpoint.id
        if self._listings.get(id_) != listing and id_ in self._roster.standings:
            self._listings[id_] = listing[:MAX_MODELS]
            self._publish(self.listing())
        return True

    def listing(self) -> Models:
        """The answer to ``GET /v1/models`` now."""
        assert self._snapshot is not None
        merged: dict[str, Entry] = {}
        for id_ in self._roster.standings:  # in the configuration's order
            for entry in self._listings.get(id_, ()):
                name = entry.get("id")
                if isinstance(name, str) and self._snapshot.routes.knows(name):
                    merged.setdefault(name, entry)
        bases = self._snapshot.adapters()
        for name in self._snapshot.models():
            if self._snapshot.routes.knows(name):
                own: Entry = {"id": name, "object": "model", "created": 0, "owned_by": "warmpath"}
                if name in bases:
                    own["parent"] = bases[name]  # as vLLM says of its adapters
                merged.setdefault(name, own)
        entries = list(merged.values())[:MAX_MODELS]
        body = msgspec.json.encode({"object": "list", "data": entries})
        return Models(body=body, names=tuple(merged)[:MAX_LABELS])
