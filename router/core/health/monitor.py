"""Counts an endpoint's failures in a row, where its requests are served.

All workers of the machine count in the same word, one per endpoint, of four 16-bit fields: server
errors, gateway failures, local-origin failures, streams cut short. Nobody locks it. Two workers
that write at the same moment may lose one count, so that the threshold is met one failure later,
or undo a reset that came in between, so that it is met although one answer was good; each needs a
collision within a microsecond. In exchange a count holds for the machine, and an answer that is
good costs one look at a word that is 0.

A count that meets its threshold starts anew, whatever is made of it: an endpoint that stays in
rotation is reported again after as many failures more.
"""

from collections.abc import Callable
from typing import Final, Protocol

from router.core.health.outlier import Detector, Outlier
from router.core.model import EndpointId

Suspicion = Callable[[EndpointId, Detector], None]
"""Takes an endpoint whose failures in a row met a detector's threshold."""

FIELD: Final = 0xFFFF
SERVER: Final = 0
GATEWAY: Final = 16
LOCAL: Final = 32
TRUNCATED: Final = 48
_ANSWERS: Final = FIELD << SERVER | FIELD << GATEWAY
_GATEWAY_STATUSES: Final = frozenset({502, 503, 504})
_DETECTORS: Final = {
    SERVER: Detector.CONSECUTIVE_5XX,
    GATEWAY: Detector.CONSECUTIVE_GATEWAY_FAILURE,
    LOCAL: Detector.CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
    TRUNCATED: Detector.CONSECUTIVE_TRUNCATED,
}


class Words(Protocol):
    """64-bit words by the endpoint's row on the board; of one process, or shared by several."""

    def __getitem__(self, slot: int, /) -> int: ...
    def __setitem__(self, slot: int, word: int, /) -> None: ...


class FailureMonitor:
    """One endpoint's counts.

    Args:
        id_: the endpoint.
        slot: its word.
        policy: thresholds, at most 65535.
        suspect: called at the moment a threshold is met.
    """

    __slots__ = ("_slot", "_suspect", "_thresholds", "_words", "id", "policy", "split")

    def __init__(
        self, id_: EndpointId, slot: int, words: Words, policy: Outlier, suspect: Suspicion
    ) -> None:
        self.id = id_
        self.policy = policy
        self._slot = slot
        self._words = words
        self._suspect = suspect
        self.split = policy.split_external_local_origin_errors
        self._thresholds = {
            SERVER: policy.consecutive_5xx,
            GATEWAY: policy.consecutive_gateway_failure,
            LOCAL: policy.consecutive_local_origin_failure,
            TRUNCATED: policy.consecutive_truncated,
        }

    def connected(self) -> None:
        """A connection is there; that is all local-origin failures are about."""
        if self.split and (word := self._words[self._slot]) >> LOCAL & FIELD:
            self._words[self._slot] = word & ~(FIELD << LOCAL)

    def answered(self, status: int) -> None:
        """The endpoint answered with this HTTP status."""
        word = self._words[self._slot]
        if status < 500:
            if word & _ANSWERS:
                self._words[self._slot] = word & ~_ANSWERS
        elif status in _GATEWAY_STATUSES:
            self._raise(GATEWAY, SERVER)
        else:
            if word & FIELD << GATEWAY:
                self._words[self._slot] = word & ~(FIELD << GATEWAY)
            self._raise(SERVER)

    def unanswered(self) -> None:
        """No connection, or none of its answer in time, or a reset before it.

        Counts as the 503 or 504 that a gateway would have made of it, unless the two origins
        are told apart.
        """
        if self.split:
            self._raise(LOCAL)
        else:
            self._raise(GATEWAY, SERVER)

    def completed(self) -> None:
        """An answer came to its end."""
        if (word := self._words[self._slot]) >> TRUNCATED:
            self._words[self._slot] = word & (1 << TRUNCATED) - 1

    def truncated(self) -> None:
        """An answer that had begun was cut short, or fell silent."""
        self._raise(TRUNCATED)

    def _raise(self, *fields: int) -> None:
        word = self._words[self._slot]
        met: list[int] = []
        for field in fields:
            count = word >> field & FIELD
            word &= ~(FIELD << field)
            threshold = self._thresholds[field]
            # Not only when equal: a reload may have lowered the threshold below the count.
            if threshold and count + 1 >= threshold:
                met.append(field)
            else:
                word |= min(count + 1, FIELD) << field
        self._words[self._slot] = word
        for field in met:
            self._suspect(self.id, _DETECTORS[field])

    def counts(self) -> dict[Detector, int]:
        """Failures in a row, by the detector that waits for them."""
        return counts_in(self._words[self._slot])

    def __repr__(self) -> str:
        counts = " ".join(f"{name}={count}" for name, count in self.counts().items() if count)
        return f"<FailureMonitor {self.id} {counts or 'nothing'}>"


def counts_in(word: int) -> dict[Detector, int]:
    """Failures in a row that a word holds, by the detector that waits for them."""
    return {detector: word >> field & FIELD for field, detector in _DETECTORS.items()}
