"""Drains with an end: an endpoint that is being emptied, how far that is, and what if not in time.

A drain lasts while the operator's override does. It is *draining* until nothing is in flight, then
*drained*. At its deadline what is left is cancelled, or the drain is undone, as it was asked for.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from router.control.journal import Tell
from router.control.roster import Roster
from router.core.model import AdminState

OnDeadline = Literal["cancel", "undo"]
State = Literal["draining", "drained", "cancelled"]


class Drain(msgspec.Struct, kw_only=True):
    """One endpoint's. Times in monotonic seconds; ``began_with``: requests in flight then."""

    since: float
    began_with: int
    deadline: float | None
    on_deadline: OnDeadline
    state: State = "draining"


class Drains:
    """The drains under way, at most one for each endpoint.

    Args:
        roster: whose overrides they follow.
        in_flight: attempts under way at an endpoint.
        cancel: ends what is under way at an endpoint, with a reason for the clients.
        tell: told how they go.
    """

    def __init__(
        self,
        roster: Roster,
        in_flight: Callable[[str], int],
        cancel: Callable[[str, str], None],
        tell: Tell,
    ) -> None:
        self._roster = roster
        self._in_flight = in_flight
        self._cancel = cancel
        self._tell = tell
        self._drains: dict[str, Drain] = {}

    def follow(self, id_: str, now: float, deadline: float | None, on_deadline: OnDeadline) -> None:
        """An operator has just set this endpoint's state.

        Args:
            deadline: seconds from now; None: none.
        """
        if self._roster.standings[id_].override.state is None:
            self._drains.pop(id_, None)
            return
        self._drains[id_] = Drain(
            since=now,
            began_with=self._in_flight(id_),
            deadline=None if deadline is None else now + deadline,
            on_deadline=on_deadline,
        )

    def look(self, now: float) -> None:
        """See how far each drain is; to be called a few times a second."""
        for id_, drain in list(self._drains.items()):
            standing = self._roster.standings.get(id_)
            if standing is None or standing.override.state is None:
                del self._drains[id_]  # its time was over, or the endpoint is gone
                continue
            left = self._in_flight(id_)
            if left == 0:
                if drain.state != "drained":
                    drain.state = "drained"
                    self._tell("drain", endpoint=id_, state="drained", took=_since(drain, now))
            elif drain.state == "draining" and drain.deadline is not None and now >= drain.deadline:
                self._overdue(id_, drain, left)

    def _overdue(self, id_: str, drain: Drain, left: int) -> None:
        if drain.on_deadline == "cancel":
            drain.state = "cancelled"
            self._tell("drain", endpoint=id_, state="cancelled", in_flight=left)
            self._cancel(id_, "the engine is being taken out of service")
        else:
            del self._drains[id_]
            self._tell("drain", endpoint=id_, state="undone", in_flight=left)
            self._roster.override(id_, state=AdminState.READY)

    def status(self, id_: str, now: float) -> dict[str, Any] | None:
        """How far an endpoint's drain is; None if it has none."""
        drain = self._drains.get(id_)
        if drain is None:
            return None
        left = None if drain.deadline is None else round(max(0.0, drain.deadline - now), 3)
        return {
            "state": drain.state,
            "for": _since(drain, now),
            "began_with": drain.began_with,
            "in_flight": self._in_flight(id_),
            "deadline_in": left,
            "on_deadline": None if drain.deadline is None else drain.on_deadline,
        }

    def __repr__(self) -> str:
        return f"<Drains {self._drains}>"


def _since(drain: Drain, now: float) -> float:
    return round(now - drain.since, 3)


def tokens_left(requests: list[dict[str, Any]]) -> dict[str, int]:
    """What the requests under way may yet bring, as far as they said.

    ``requests``: how many were looked at; ``unknown``: of those, how many set no limit.
    """
    known = [r["tokens_left"] for r in requests if r["tokens_left"] is not None]
    return {
        "tokens_left": sum(known),
        "requests": len(requests),
        "unknown": len(requests) - len(known),
    }
