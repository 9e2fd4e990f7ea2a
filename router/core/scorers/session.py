"""Where the session was before is better (llm-d's session-affinity-scorer, session_id_header).

A preference that other scores may outweigh, unlike a cluster's ``session``. Remembered in the
machine's table of conversations, which all workers share; a session moves with its last request.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from router.core.affinity import AffinityTable
from router.core.hash_key import SOURCE_PATTERN, HashKey
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest
from router.core.scorers.base import Scorer, ScorerSpec


class SessionScorer:
    class Spec(ScorerSpec, frozen=True, kw_only=True, tag="session"):
        """The endpoint that had the session's last request scores 1, the others 0.

        ``weight``: how much the score counts against the others. ``key``: what names the session:
        ``header:NAME``, ``cookie:NAME``, ``user``, ``source_ip`` or ``prefix``.
        """

        key: Annotated[str, msgspec.Meta(pattern=SOURCE_PATTERN)] = "header:x-session-token"

        def build(self, memory: ClusterMemory) -> Scorer:
            return SessionScorer(self, memory.affinity)

    __slots__ = ("_affinity", "_key")

    def __init__(self, spec: Spec, affinity: AffinityTable) -> None:
        self._key = HashKey((spec.key,))
        self._affinity = affinity

    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        key = self._key.of(request)
        slot = None if key is None else self._affinity.get(key)
        if slot is None:
            return None
        return [1.0 if host.slot == slot else 0.0 for host in hosts]

    def chosen(self, request: LlmRequest, host: HostState) -> None:
        key = self._key.of(request)
        if key is not None:
            self._affinity.put(key, host.slot)
