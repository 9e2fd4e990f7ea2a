"""What a cluster's endpoints have ahead of them, and what they are thought to hold in their caches.

One for each cluster and process: all balancers of the cluster look at it, and every attempt that an
endpoint is given is entered here, whoever chose it. Other routers' attempts are entered too, as far
as they tell (``news`` says what of ours they are to be told). See ``outlook`` for the work in
line, ``router.core.prefix.mirror`` for the caches.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from router.core.forecast import cost
from router.core.forecast.foresight import Foresight
from router.core.forecast.outlook import Outlook, Pace, Terms
from router.core.forecast.work import PrefillWork
from router.core.host import HostState, Outcome
from router.core.load import LoadReport
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK, DEPTHS
from router.core.prefix.mirror import SURE, CacheMirror
from router.core.prefix.trust import Trust

BYTES_PER_TOKEN: Final = 4.0
"""Before any answer has told."""

STALE: Final = 5.0
"""Seconds after which an engine's word on its load is no word any more."""


class News(Protocol):
    """Whoever tells other routers."""

    def sent(self, work: PrefillWork) -> None: ...

    def first_token(self, work: PrefillWork) -> None: ...

    def ended(self, work: PrefillWork, outcome: Outcome) -> None: ...


class Tips(Protocol):
    """Whoever listens to what engines say of their caches."""

    def seen(self, work: PrefillWork, block: int, count: int) -> None:
        """An answer names the last block of its prompt; ``count``: its blocks, at least 1."""
        ...


class Forecast:
    """Of one cluster.

    Attributes:
        mirror: of the endpoints' caches.
        trust: how well it predicts.
        foresight: how well first tokens were predicted.
        terms: how a score is weighed.
        quadratic: tokens of context at which attention costs as much as all else.
        bytes_per_token: of prompts, learned from what the engines count.
        news: told of every attempt; None: nobody is.
        tips: told which blocks prompts have; None: nobody is.
        version: grows when an endpoint's outlook becomes another object.
    """

    __slots__ = (
        "_among",
        "_asked",
        "_capacities",
        "_found",
        "_outlooks",
        "bytes_per_token",
        "foresight",
        "mirror",
        "news",
        "pace",
        "quadratic",
        "terms",
        "tips",
        "trust",
        "version",
    )

    def __init__(self) -> None:
        self.mirror = CacheMirror()
        self.trust = Trust()
        self.foresight = Foresight()
        self.terms = Terms()
        self.pace = Pace()
        self.quadratic = 17_000.0
        self.bytes_per_token = BYTES_PER_TOKEN
        self.news: News | None = None
        self.tips: Tips | None = None
        self.version = 0
        self._outlooks: dict[EndpointId, Outlook] = {}
        self._capacities: dict[EndpointId, int] = {}
        # What a pick has just asked for, since the attempt that follows from it asks again.
        self._asked: LlmRequest | None = None
        self._among = 0
        self._found: dict[int, float] = {}

    def tune(self, terms: Terms, quadratic: float, max_entries: int) -> None:
        """As the balancer is configured; what was learned stays."""
        self.terms = terms
        self.quadratic = quadratic
        self.mirror.max_entries = max_entries
        for outlook in self._outlooks.values():
            outlook.terms = terms
            outlook.fold()

    # --- endpoints --------------------------------------------------------------------------

    def of(self, id_: EndpointId) -> Outlook:
        """The outlook of an endpoint, made on first use."""
        outlook = self._outlooks.get(id_)
        if outlook is None:
            self.version += 1
            outlook = self._outlooks[id_] = Outlook(id_, self.mirror.open(), self.pace, self.terms)
        return outlook

    def lost(self, id_: EndpointId) -> None:
        """It is down or gone: it has nothing in line, and will come back with an empty cache."""
        self._capacities.pop(id_, None)
        outlook = self._outlooks.pop(id_, None)
        if outlook is not None:
            self.version += 1
            self.mirror.close(outlook.page)
            # Its experience goes with it, but what it told of the fleet's pace stays told.

    def emptied(self, id_: EndpointId) -> None:
        """Its cache was cleared; what it has in line is still there."""
        outlook = self._outlooks.get(id_)
        if outlook is not None:
            self.version += 1
            was = outlook.page
            self.mirror.close(was)
            outlook.page = self.mirror.open()
            outlook.page.scale, outlook.page.counted = was.scale, was.counted

    def doubt(self, id_: EndpointId) -> None:
        """Nobody says any more what its cache holds."""
        outlook = self._outlooks.get(id_)
        if outlook is not None:
            self.mirror.doubt(outlook.page)

    def outlooks(self) -> Iterable[tuple[EndpointId, Outlook]]:
        return self._outlooks.items()

    # --- a request ----------------------------------------------------------------------------

    def tokens(self, request: LlmRequest) -> float:
        """Of its prompt, estimated."""
        return (request.prompt_bytes or request.body_bytes) / self.bytes_per_token

    def assume(self, now: float) -> None:
        """Take it that prompts of requests that do not stream are computed when they should be."""
        for outlook in self._outlooks.values():
            if outlook.silent:
                outlook.assume(now)

    def cost(self, tokens: float, cached: float, step: float) -> float:
        """Predicted seconds of computing a prompt.

        Args:
            cached: the share of it that need not be computed, 0 to 1.
            step: seconds of a step, ``Outlook.step``.
        """
        uncached = tokens * (1.0 - cached)
        return cost.prefill(uncached, tokens, self.quadratic) + cost.steps(uncached) * step

    def expected(self, request: LlmRequest, among: int) -> dict[int, float]:
        """Blocks of its prompt that endpoints are expected to hold; see ``CacheMirror.held``."""
        found = self.mirror.held(
            request.checkpoints, request.prompt_bytes / BLOCK, request.prefix_hash or 0, among
        )
        return self.asked(request, among, found)

    def asked(self, request: LlmRequest, among: int, found: dict[int, float]) -> dict[int, float]:
        """Remember what was found for a request, which may be about to be sent."""
        self._asked, self._among, self._found = request, among, found
        return found

    def begin(self, request: LlmRequest, host: HostState, now: float) -> PrefillWork:
        """An attempt is about to be sent to ``host``; implements ``balancers.base.Accounts``."""
        outlook = self.of(host.id)
        bit = 1 << outlook.page.index
        if self._asked is request and self._among & bit:
            found = self._found
        else:
            found = self.expected(request, bit)
        wait = outlook.wait(now)
        work = self._enter(
            outlook,
            self.tokens(request),
            request.prompt_bytes / BLOCK,
            request.checkpoints,
            request.prefix_hash or 0,
            found.get(outlook.page.index, 0.0),
            request.stream,
            now,
            True,
        )
        work.hoped = wait + outlook.pace * work.cost
        if self.news is not None:
            self.news.sent(work)
        return work

    def heard_of(
        self,
        id_: EndpointId,
        tokens: float,
        blocks: float,
        checkpoints: tuple[int, ...],
        conversation: int,
        streamed: bool,
        now: float,
    ) -> PrefillWork:
        """Another router has sent a request there. Nobody is told of that again."""
        outlook = self.of(id_)
        index = outlook.page.index
        found = self.mirror.held(checkpoints, blocks, conversation, 1 << index)
        expected = found.get(index, 0.0)
        return self._enter(
            outlook, tokens, blocks, checkpoints, conversation, expected, streamed, now, False
        )

    def heard_under_way(
        self,
        id_: EndpointId,
        tokens: float,
        cost: float,
        streamed: bool,
        decoding: bool,
        since: float,
        now: float,
    ) -> PrefillWork:
        """Another router has sent a request there before this one began to listen."""
        outlook = self.of(id_)
        work = PrefillWork(
            self, outlook, cost, tokens, 0.0, (), 0, 0.0, 0, 0.0, since, streamed, False
        )
        outlook.join(work, since)
        if decoding:
            work.passed(now)
        return work

    def _enter(
        self,
        outlook: Outlook,
        tokens: float,
        blocks: float,
        checkpoints: tuple[int, ...],
        conversation: int,
        expected: float,
        streamed: bool,
        now: float,
        ours: bool,
    ) -> PrefillWork:
        mirror, page = self.mirror, outlook.page
        known, age = mirror.deepest(page, checkpoints)
        share = expected / blocks if expected and self.trust.believed else 0.0
        work = PrefillWork(
            self,
            outlook,
            self.cost(tokens, share, outlook.step),
            tokens,
            blocks,
            checkpoints,
            conversation,
            expected,
            known + 1,
            age,
            now,
            streamed,
            ours,
        )
        outlook.join(work, now)
        mirror.use(page, checkpoints, blocks, conversation, max(0.0, blocks - expected))
        return work

    # --- what becomes of it -------------------------------------------------------------------

    def keep(self, work: PrefillWork) -> None:
        """Its endpoint has just let go of the prompt's blocks: they were used last now."""
        if self._current(work.outlook):
            self.mirror.use(work.outlook.page, work.checkpoints, work.blocks, work.conversation)

    def drop(self, work: PrefillWork) -> None:
        """Its endpoint never read the prompt: it has no more of it than before."""
        if self._current(work.outlook):
            self.mirror.unlearn(work.outlook.page, work.checkpoints[work.known :])

    def _current(self, outlook: Outlook) -> bool:
        """Whether it is still the endpoint's: one that was lost has begun another."""
        return self.mirror.opened(outlook.page)

    def counted(self, work: PrefillWork, prompt: int, cached: int | None) -> None:
        """What the engine says of a prompt that it has answered."""
        if prompt <= 0 or not work.blocks:
            return
        seen = work.blocks * BLOCK / prompt
        if 0.5 <= seen <= 32.0:  # else it is no text
            self.bytes_per_token += 0.02 * (seen - self.bytes_per_token)
        if cached is None:
            return
        found = min(cached, prompt) / prompt * work.blocks
        if work.blocks >= 1.0:  # of less, engines' own blocks of 16 tokens or so decide
            self.trust.compare(work.expected / work.blocks * prompt, cached, prompt, work.ended_at)
        if work.known and work.age != SURE:
            # Engines round down to blocks of their own, and templates add a little.
            depth = DEPTHS[work.known - 1]
            self.mirror.learn(work.age, found >= 0.9 * depth)

    # --- what engines say of their load -------------------------------------------------------

    def reported(self, id_: EndpointId, load: LoadReport | None) -> None:
        """An engine's word on its load: what of it is news goes in line before all newcomers.

        Implements ``core.memory.Informed``.
        """
        outlook = self.of(id_)
        foreign = 0.0
        if load is not None:
            outlook.reported_at = load.at
            if load.capacity and not outlook.page.counted:
                self.sizes(id_, load.capacity)
            line = outlook.line
            if load.queued_prefill is not None:
                ours = sum(work.tokens for work in line)
                foreign = cost.TOKEN * max(0.0, load.queued_prefill - ours)
            elif load.waiting > len(line):
                mean = outlook.queued / len(line) if line else cost.TOKEN * cost.CHUNK
                foreign = mean * (load.waiting - len(line))
        outlook.heed(foreign)

    def look(self, now: float) -> None:
        """Heed no report that is too old: an endpoint that it keeps from requests has no answers
        whose heads could tell better."""
        for outlook in self._outlooks.values():
            if outlook.foreign and now - outlook.reported_at > STALE:
                outlook.heed(0.0)

    def sizes(self, id_: EndpointId, tokens: int) -> None:
        """An endpoint's cache holds so many."""
        if tokens != self._capacities.get(id_):
            self._capacities[id_] = tokens
            self.sized(list(self._capacities.items()))

    def told_size(self, id_: EndpointId, tokens: int) -> None:
        """It is one of those that say what they store as well."""
        self.sizes(id_, tokens)
        outlooks, capacities = self._outlooks.values(), self._capacities.values()
        if len(outlooks) == len(capacities) and all(one.page.counted for one in outlooks):
            self.mirror.fit(sum(capacities) / len(capacities) * self.bytes_per_token / BLOCK)

    def sized(self, capacities: Sequence[tuple[EndpointId, int]]) -> None:
        """Tokens that the endpoints say their caches hold."""
        if not capacities:
            return
        mean = sum(tokens for _, tokens in capacities) / len(capacities)
        self.mirror.start_with(mean * self.bytes_per_token / BLOCK)
        for id_, tokens in capacities:
            self.of(id_).page.scale = mean / tokens

    # --- telling others -----------------------------------------------------------------------

    def tell_first_token(self, work: PrefillWork) -> None:
        if self.news is not None and work.ours:
            self.news.first_token(work)

    def tell_ended(self, work: PrefillWork, outcome: Outcome) -> None:
        if self.news is not None and work.ours:
            self.news.ended(work, outcome)

    def tell_tip(self, work: PrefillWork, block: int, count: int) -> None:
        if self.tips is not None and work.blocks:
            self.tips.seen(work, block, count)

    def __repr__(self) -> str:
        return f"<Forecast {len(self._outlooks)} endpoints, {self.mirror!r}, {self.trust!r}>"
