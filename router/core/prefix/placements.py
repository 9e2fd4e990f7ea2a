"""Where prompts were sent and what of them is still to be done.

The accounts of the balancers that place requests by what engines are likely to have cached: each
attempt enters its prompt into the index, adds the tokens that nobody has computed yet to the
endpoint's prefill until its first token, and its whole prompt to what is in use there until it
ends. All is counted when the attempt is sent: a load that shows only once answers come is seen too
late by every request of a burst.
"""

from collections.abc import Sequence
from typing import Final

from router.core.host import HostState, Outcome
from router.core.model import BYTES_PER_TOKEN, EndpointId, LlmRequest
from router.core.prefix.active import ActivePrefixes, Uses
from router.core.prefix.blocks import BLOCK, DEPTHS
from router.core.prefix.index import PrefixIndex, Rows

TOKENS_PER_BLOCK: Final = BLOCK // BYTES_PER_TOKEN
TOKENS: Final = (0, *(depth * TOKENS_PER_BLOCK for depth in DEPTHS))
"""Tokens up to the deepest of so many checkpoints."""

CAPACITY: Final = 1 << 20
"""Blocks, where a balancer has no limit of its own: what the index holds in all is the limit."""


def prompt_tokens(request: LlmRequest) -> int:
    """An estimate, of the prompt where the face has seen it, else of the whole body."""
    return (request.prompt_bytes or request.body_bytes) // BYTES_PER_TOKEN


class Outstanding:
    """What one endpoint was sent and has not done. Tokens.

    ``prefill``: of prompts, neither cached nor computed yet. ``used``: of the prompts of all
    requests in flight, common beginnings once.
    """

    __slots__ = ("gone", "prefill", "requests", "used")

    def __init__(self) -> None:
        self.prefill = 0
        self.used = 0
        self.requests = 0
        self.gone = False

    def __repr__(self) -> str:
        return f"<Outstanding {self.requests} requests prefill={self.prefill} used={self.used}>"


class Placement:
    """One attempt's part in an endpoint's outstanding work; a ``Work``."""

    __slots__ = ("_active", "_id", "_names", "_owner", "_prefill", "_rest", "_uses")

    def __init__(self, owner: "Placements", id_: EndpointId, prefill: int) -> None:
        self._owner = owner
        self._id = id_
        self._prefill = prefill
        self._names: Sequence[int] = ()
        self._uses: Uses | None = None
        self._rest = 0
        self._active = owner.outstanding(id_)
        self._active.requests += 1
        self._active.prefill += prefill

    def hold(self, names: Sequence[int], bit: int, tokens: int) -> None:
        """Count what it uses until it ends: the names, and what of its tokens has none."""
        self._names = names
        self._uses, fresh = self._owner.active.begin(names, bit)
        self._rest = max(0, tokens - TOKENS[len(names)])
        self._active.used += fresh * TOKENS_PER_BLOCK + self._rest

    def first_token(self, now: float, streamed: bool) -> None:
        self._active.prefill -= self._prefill
        self._prefill = 0

    def ended(self, outcome: Outcome, now: float) -> None:
        active = self._active
        active.prefill -= self._prefill
        active.used -= self._rest
        active.requests -= 1
        if self._uses is not None:
            freed = self._owner.active.end(self._names, self._uses)
            active.used -= freed * TOKENS_PER_BLOCK
        if active.gone and not active.requests:
            self._owner.drop(self._id)

    def usage(self, prompt: int, cached: int | None) -> None:
        """These balancers do not learn from it."""

    def prefix_tip(self, block: int, count: int) -> None:
        """Nor from this."""


class Lineup:
    """The hosts of one balancer with what is known of each, in their order.

    ``shares``: weights over their mean; None where all are 1.
    """

    __slots__ = ("hosts", "outstanding", "rows", "shares")

    def __init__(
        self, hosts: Sequence[HostState], rows: Rows, outstanding: Sequence[Outstanding]
    ) -> None:
        self.hosts = hosts
        self.rows = rows
        self.outstanding = outstanding
        self.shares: Sequence[float] | None = None
        if len({host.weight for host in hosts}) > 1:
            mean = sum(host.weight for host in hosts) / len(hosts)
            self.shares = [host.weight / mean for host in hosts]

    def by_share(self, figures: Sequence[float]) -> Sequence[float]:
        """Loads as a balancer compares them: at twice the mean weight they count half."""
        if self.shares is None:
            return figures
        return [figure / share for figure, share in zip(figures, self.shares, strict=True)]


class Placements:
    """Of one cluster; a kind for :meth:`ClusterMemory.keep`.

    Attributes:
        index: what endpoints are thought to have cached.
        active: what their requests in flight use; empty unless ``tune`` asked for it.
        deepest: checkpoints of a prompt that count.
    """

    __slots__ = ("_followed", "_outstanding", "_reported", "active", "deepest", "index")

    def __init__(self) -> None:
        self.index = PrefixIndex(CAPACITY)
        self.active = ActivePrefixes()
        self.deepest = len(DEPTHS)
        self._followed = False
        self._reported = False
        self._outstanding: dict[EndpointId, Outstanding] = {}

    def tune(
        self,
        *,
        capacity: int = CAPACITY,
        ttl: float = 0.0,
        deepest: int = len(DEPTHS),
        reported: bool = False,
        active: bool = False,
    ) -> None:
        """What the balancers of the cluster want to be kept.

        Args:
            capacity: blocks of an endpoint.
            ttl: seconds; 0: for ever.
            deepest: checkpoints of a prompt that count.
            reported: an engine's own word on its capacity comes before ``capacity``.
            active: follow the blocks of requests in flight too.
        """
        self.index.tune(capacity, ttl)
        self.deepest = deepest
        self._reported = reported
        self._followed = active

    def outstanding(self, id_: EndpointId) -> Outstanding:
        found = self._outstanding.get(id_)
        if found is None:
            found = self._outstanding[id_] = Outstanding()
        found.gone = False
        return found

    def lineup(self, hosts: Sequence[HostState], known: Lineup | None) -> Lineup:
        """What is known of these hosts; ``known`` if it is still right."""
        if known is None:
            rows = self.index.rows(hosts)
        else:
            rows = self.index.rows(hosts, known.rows)
            if rows is known.rows:
                return known
        return Lineup(hosts, rows, [self.outstanding(host.endpoint.id) for host in hosts])

    def begin(self, request: LlmRequest, host: HostState, now: float) -> Placement:
        id_ = host.endpoint.id
        names = request.checkpoints[: self.deepest]
        tokens = prompt_tokens(request)
        cached = TOKENS[self.index.held(names, id_)] if names else 0
        placement = Placement(self, id_, max(0, tokens - cached))
        if names:
            load = host.load if self._reported else None
            room = load.capacity if load is not None else None
            self.index.record(names, id_, now, room // TOKENS_PER_BLOCK if room else 0)
        if self._followed:
            placement.hold(names, self.index.bit(id_), tokens)
        return placement

    def lost(self, id_: EndpointId) -> None:
        """The endpoint is down or gone; what is still in flight there goes on counting."""
        self.active.lost(self.index.bit(id_))
        self.index.lost(id_)
        found = self._outstanding.get(id_)
        if found is not None:
            found.gone = True
            if not found.requests:
                self.drop(id_)

    def drop(self, id_: EndpointId) -> None:
        """Nothing is in flight at an endpoint that is gone."""
        self._outstanding.pop(id_, None)

    def __repr__(self) -> str:
        return f"<Placements {self.index!r} {self.active!r}>"
