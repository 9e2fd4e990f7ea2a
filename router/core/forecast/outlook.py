"""What is ahead of a request at one endpoint.

Prompts are computed in the order in which they came. The router sees when each is done: that is
its first token. So it keeps the line of its own requests without one, each with its predicted
cost, and the time since which the first of them is being computed. Seconds are predicted ones; what
they are worth at this endpoint, its *pace*, is the ratio of observed and predicted service over
the last hundred first tokens, drawn towards the fleet's while there are few.

What a pick compares is folded into five numbers whenever something happens here, so that a pick
costs a multiplication or two for each endpoint.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from router.core.forecast import cost
from router.core.model import EndpointId

if TYPE_CHECKING:
    from router.core.forecast.work import PrefillWork
    from router.core.prefix.page import Page

FORGET: Final = 0.99
"""What a sample of the pace counts for after the next one."""

PRIOR: Final = 10.0
"""Predicted seconds of service at the fleet's pace that every endpoint begins with."""


class Pace:
    """Observed over predicted seconds of service; of the fleet, for endpoints to begin with.

    ``silent``: requests in the lines of all endpoints that show no first token.
    """

    __slots__ = ("observed", "predicted", "silent")

    def __init__(self) -> None:
        self.observed = 0.0
        self.predicted = 0.0
        self.silent = 0

    @property
    def ratio(self) -> float:
        return self.observed / self.predicted if self.predicted > 0.0 else 1.0


class Terms:
    """How prompts in line, own work and decode are weighed; see ``PredictedTtft.Spec``."""

    __slots__ = ("decode", "interference", "work")

    def __init__(self, work: float = 1.5, interference: float = 0.01, decode: float = 0.01) -> None:
        self.work = work
        self.interference = interference
        self.decode = decode


class Outlook:
    """Of one endpoint.

    Attributes:
        id: the endpoint's.
        page: its part of the cache mirror.
        decoding: requests of which tokens are still to come; ``context`` their prompts' tokens.
        foreign: predicted seconds of work that others than this router, and those that it hears
            of, gave the endpoint, as it said at ``reported_at``.
        pace: real seconds for each predicted one.
        unheard: seconds that others may have sent there and this router has not heard of, as far
            as that is a reason to go elsewhere; see ``unheard``.
        share: the largest weight of the cluster over this endpoint's: an endpoint of half the
            weight is to have half the line.
        step: predicted seconds that each step of a newcomer takes.
        folded: what picks compare: ``(empty_at, least, step, factor, burden, share)``. The wait of
            a newcomer is ``max(empty_at - now, least)`` seconds, ``factor`` the seconds of the
            score for each predicted second of its own work, ``burden`` those for what it disturbs.
    """

    __slots__ = (
        "_fleet",
        "_since",
        "context",
        "decoding",
        "folded",
        "foreign",
        "id",
        "line",
        "observed",
        "pace",
        "page",
        "predicted",
        "queued",
        "reported_at",
        "share",
        "silent",
        "step",
        "terms",
        "unheard",
    )

    def __init__(self, id_: EndpointId, page: "Page", fleet: Pace, terms: Terms) -> None:
        self.id = id_
        self.page = page
        self.terms = terms
        self.line: deque[PrefillWork] = deque()
        self.queued = 0.0
        self.decoding = 0
        self.context = 0.0
        self.foreign = 0.0
        self.unheard = 0.0
        self.reported_at = 0.0
        self.share = 1.0
        self.silent = 0
        self.observed = 0.0
        self.predicted = 0.0
        self._fleet = fleet
        self._since = 0.0
        self.pace = fleet.ratio
        self.step = cost.STEP
        self.folded = (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        self.fold()

    def wait(self, now: float) -> float:
        """Seconds until a newcomer's prompt would be begun."""
        return max(self.folded[0] - now, self.folded[1])

    # --- what happens ---------------------------------------------------------------------------

    def join(self, work: "PrefillWork", now: float) -> None:
        """A request is sent there."""
        if not self.line:
            self._since = now
        self.line.append(work)
        self.queued += work.cost
        if not work.streamed:
            self.silent += 1
            self._fleet.silent += 1
        self.fold()

    def begun(self, work: "PrefillWork", now: float) -> None:
        """Its first token has come."""
        service = now - max(self._since, work.since)
        self._leave(work)
        self._since = now
        self._rest_on(FORGET * self.observed + service, FORGET * self.predicted + work.cost)
        self._decode(work)

    def passed(self, work: "PrefillWork", now: float) -> None:
        """Its first token has come, and nobody here saw when: that teaches nothing."""
        if self.line[0] is work:
            self._since = now
        self._leave(work)
        self._decode(work)

    def given_up(self, work: "PrefillWork", now: float) -> None:
        """It has left before its first token."""
        if self.line[0] is work:
            self._since = now
        self._leave(work)
        self.fold()

    def done(self, work: "PrefillWork") -> None:
        """Its last token has come, or nobody wants it any more."""
        self.decoding -= 1
        self.context -= work.tokens
        self.fold()

    def assume(self, now: float) -> None:
        """Who does not stream shows no first token: the prediction stands for it."""
        pace = self.pace
        while self.line and not self.line[0].streamed:
            work = self.line[0]
            due = max(self._since, work.since) + pace * work.cost
            if due > now:
                return
            self._leave(work)
            self._since = due
            work.assumed()
            self._decode(work)

    def heed(self, foreign: float) -> None:
        """The endpoint has so many predicted seconds of work that nobody told of."""
        if foreign != self.foreign:
            self.foreign = foreign
            self.fold()

    def suppose(self, unheard: float) -> None:
        """Others may have sent so many seconds there."""
        if unheard != self.unheard:
            self.unheard = unheard
            self.fold()

    def weigh(self, share: float) -> None:
        """The heaviest endpoint's weight is ``share`` times this one's."""
        if share != self.share:
            self.share = share
            self.fold()

    def recall(self, observed: float, predicted: float) -> None:
        """What another router knows of its pace, if that is more."""
        if predicted > self.predicted:
            self._rest_on(observed, predicted)
            self.fold()

    def _rest_on(self, observed: float, predicted: float) -> None:
        """The endpoint's own seconds; the fleet's follow."""
        fleet = self._fleet
        fleet.observed += observed - self.observed
        fleet.predicted += predicted - self.predicted
        self.observed, self.predicted = observed, predicted
        self.pace = (observed + PRIOR * fleet.ratio) / (predicted + PRIOR)

    def _leave(self, work: "PrefillWork") -> None:
        if self.line[0] is work:
            self.line.popleft()
        else:
            self.line.remove(work)
        if not work.streamed:
            self.silent -= 1
            self._fleet.silent -= 1
        # Sums of floats drift; an empty line weighs nothing.
        self.queued = self.queued - work.cost if self.line else 0.0

    def _decode(self, work: "PrefillWork") -> None:
        self.decoding += 1
        self.context += work.tokens
        self.fold()

    def fold(self) -> None:
        """Compute what picks compare."""
        pace, terms, decoding = self.pace, self.terms, self.decoding
        empty_at, least = 0.0, pace * self.foreign
        if self.line:
            least += pace * self.queued
            empty_at = least + self._since
            least -= pace * self.line[0].cost
        self.step = cost.STEP + cost.DECODE * decoding + cost.CONTEXT * self.context
        factor = pace * (1.0 + terms.work + terms.interference * decoding)
        burden = terms.decode * decoding + self.unheard
        self.folded = (empty_at, least, self.step, factor, burden, self.share)

    def __repr__(self) -> str:
        return (
            f"<Outlook line={len(self.line)} queued={self.queued:.3f}s decoding={self.decoding} "
            f"pace={self.pace:.2f}>"
        )
