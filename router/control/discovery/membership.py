"""What is known of one cluster's endpoints, and how far it can be trusted. Pure: time is given.

An answer replaces what is known, with two exceptions. A failure changes nothing but the verdict:
what is known is stale from then on. And a cluster that has endpoints is not emptied by an answer
without any until the source has said so, without a failure in between, for ``empty_after``: the
usual cause is a selector, a name or a pipeline that broke, not the end of all engines at once.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from router.config.clusters import EndpointSpec
from router.control.discovery.answer import Answer

RESULTS = ("changed", "unchanged", "empty", "failed")


class Membership:
    """The endpoints of one cluster as its source told them.

    Args:
        empty_after: seconds after which an empty answer is believed; 0 at once.
        limit: endpoints beyond so many are left out.
        carried: what served the cluster before it had this source.

    Attributes:
        known: the endpoints to use.
        answered: whether ``known`` came from the source.
        error: why the source failed last, None after a success.
        confirmed_at: when the source last answered, monotonic seconds.
        left_out: how many endpoints were too many.
        results: how many answers there were of each kind, see ``RESULTS``.
    """

    def __init__(
        self, empty_after: float, limit: int, carried: tuple[EndpointSpec, ...] = ()
    ) -> None:
        self._empty_after = empty_after
        self._limit = limit
        self.known = carried
        self.answered = False
        self.error: str | None = None
        self.confirmed_at: float | None = None
        self.left_out = 0
        self.results: Counter[str] = Counter()
        self._empty_since: float | None = None

    @property
    def stale(self) -> bool:
        """Whether ``known`` may differ from what is true."""
        return not self.answered or self.error is not None or self._empty_since is not None

    @property
    def empty_due(self) -> float | None:
        """When an empty answer, should it last, will be believed."""
        return None if self._empty_since is None else self._empty_since + self._empty_after

    def take(self, answer: Answer, now: float) -> bool:
        """Take an answer; returns whether ``known`` changed."""
        self.error = None
        self.confirmed_at = now
        endpoints = self._bounded(answer.endpoints)
        if not endpoints and self.known:
            if self._empty_since is None:
                self._empty_since = now
            if self.believe(now):
                return True
            self.results["empty"] += 1
            return False
        self._empty_since = None
        self.answered = True
        changed = endpoints != self.known
        self.results["changed" if changed else "unchanged"] += 1
        self.known = endpoints
        return changed

    def believe(self, now: float) -> bool:
        """Drop the endpoints if the source said for long enough that there are none."""
        due = self.empty_due
        if due is None or now < due:
            return False
        self.known = ()
        self.answered = True
        self._empty_since = None
        self.results["changed"] += 1
        return True

    def failed(self, error: str) -> bool:
        """Take note of a failure; returns whether it is another than the last one."""
        news = error != self.error
        self.error = error
        self._empty_since = None  # silence is no confirmation
        self.results["failed"] += 1
        return news

    def _bounded(self, endpoints: tuple[EndpointSpec, ...]) -> tuple[EndpointSpec, ...]:
        self.left_out = max(0, len(endpoints) - self._limit)
        if not self.left_out:
            return endpoints
        survivors = {endpoint.address for endpoint in self.known}
        ranked = sorted(endpoints, key=lambda endpoint: endpoint.address not in survivors)
        kept = {endpoint.address for endpoint in ranked[: self._limit]}
        return tuple(endpoint for endpoint in endpoints if endpoint.address in kept)

    def status(self, now: float) -> dict[str, Any]:
        """For an operator."""
        state = "stale" if self.stale else "current"
        if not self.answered and not self.known:
            state = "waiting"
        return {
            "state": state,
            "endpoints": len(self.known),
            "left_out": self.left_out,
            "confirmed_ago": _ago(now, self.confirmed_at),
            "empty_for": _ago(now, self._empty_since),
            "error": self.error,
        }

    def __repr__(self) -> str:
        return f"<Membership {len(self.known)} endpoints stale={self.stale} error={self.error!r}>"


def _ago(now: float, then: float | None) -> float | None:
    return None if then is None else round(max(0.0, now - then), 3)


def difference(
    before: Iterable[EndpointSpec], after: Iterable[EndpointSpec]
) -> tuple[list[str], list[str]]:
    """Addresses that came, and that went."""
    old = {str(endpoint.address): endpoint for endpoint in before}
    new = {str(endpoint.address): endpoint for endpoint in after}
    return [a for a in new if a not in old], [a for a in old if a not in new]
