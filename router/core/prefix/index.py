"""Which endpoints were sent which beginnings of prompts: what approximate prefix routing rests on.

Nothing is asked of the engines. What went to an endpoint is taken to be in its cache until newer
prompts push it out (``capacity``, least recently used first) or it has aged (``ttl``). A name (see
``blocks``) leads to a bit mask of the endpoints that hold it, so that one walk down a prompt's
names answers for all of them; each endpoint has its names in the order of their last use. Of one
prompt the deepest is taken to be the oldest: an engine gives up the tail of a prefix first, and a
name without those above it is worth nothing.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from math import inf
from typing import Final

from router.core.host import HostState
from router.core.model import EndpointId
from router.core.prefix.blocks import DEPTHS, GAINS

ENTRIES: Final = 1 << 19
"""Pairs of name and endpoint in all, 120 MB: past them the endpoint with the most gives some up."""

BATCH: Final = 512
"""Entries given up at once at most, some 0.2 ms."""

_POSITIONS: Final = 6
_POSITION: Final = (1 << _POSITIONS) - 1
assert len(DEPTHS) <= _POSITION

Matches = list[int]
"""For each host how many of the prompt's names it holds, from the first one on without a gap."""


class Rows:
    """Where the hosts of one balancer stand in the index; good until ``stands`` says otherwise."""

    __slots__ = ("bits", "epoch", "everybody", "hosts", "places")

    def __init__(self, hosts: Sequence[HostState], bits: Sequence[int], epoch: int) -> None:
        self.hosts = hosts
        self.epoch = epoch
        self.bits = bits
        self.everybody = sum(bits)
        self.places = {bit: place for place, bit in enumerate(bits)}


class PrefixIndex:
    """Of one cluster.

    Args:
        capacity: blocks that an endpoint is taken to hold, where nothing better is known.
        ttl: seconds after which what was not used again is forgotten; 0: never.

    Attributes:
        entries: pairs of name and endpoint.
    """

    __slots__ = (
        "_blocks",
        "_epoch",
        "_free",
        "_held",
        "_holders",
        "_leaving",
        "_seats",
        "_swept_at",
        "capacity",
        "entries",
        "ttl",
    )

    def __init__(self, capacity: int, ttl: float = 0.0) -> None:
        self.capacity = capacity
        self.ttl = ttl
        self.entries = 0
        self._holders: dict[int, int] = {}
        self._seats: dict[EndpointId, int] = {}
        # By seat. A value is the position of the name's depth below the milliseconds of its last
        # use: one small integer instead of an object for each.
        self._held: list[OrderedDict[int, int]] = []
        self._blocks: list[int] = []
        self._free: list[int] = []
        self._leaving: list[int] = []  # seats of the lost, which still hold entries
        self._epoch = 0
        self._swept_at = 0.0

    def tune(self, capacity: int, ttl: float) -> None:
        """New parameters; what is known stays as far as it has room."""
        self.capacity = capacity
        self.ttl = ttl

    def rows(self, hosts: Sequence[HostState], known: Rows | None = None) -> Rows:
        """Where these hosts stand; ``known`` if it is still right."""
        if known is not None and known.hosts is hosts and known.epoch == self._epoch:
            return known
        bits = [self.bit(host.endpoint.id) for host in hosts]
        return Rows(hosts, bits, self._epoch)

    def match(self, names: Sequence[int], rows: Rows, now: float = 0.0) -> Matches | None:
        """How much of a prompt each host holds; None: nobody holds anything.

        Args:
            names: its checkpoints, the shallowest first.
        """
        if self.ttl and now > self._swept_at:
            self._sweep(now)
        return walk(self._holders, names, rows)

    def held(self, names: Sequence[int], id_: EndpointId) -> int:
        """How many of a prompt's names one endpoint holds, from the first one on."""
        seat = self._seats.get(id_)
        if seat is None:
            return 0
        held = self._held[seat]
        for depth, name in enumerate(names):
            if name not in held:
                return depth
        return len(names)

    def record(self, names: Sequence[int], id_: EndpointId, now: float, room: int = 0) -> None:
        """A prompt goes to an endpoint.

        Args:
            room: blocks that the endpoint can hold; 0: not known.
        """
        seat = self._seat(id_)
        held, holders, bit = self._held[seat], self._holders, 1 << seat
        used = int(now * 1000) << _POSITIONS if self.ttl else 0
        blocks, before, position = self._blocks[seat], len(held), len(names)
        for name in reversed(names):
            position -= 1
            if name not in held:
                blocks += GAINS[position]
                holders[name] = holders.get(name, 0) | bit
                held[name] = used | position
                continue
            held.move_to_end(name)
            if used:
                held[name] = used | position
        self._blocks[seat] = blocks
        self.entries += len(held) - before
        excess = blocks - (room or self.capacity)
        if excess > 0:
            self._give_up(seat, BATCH, excess)
        if self._leaving:
            self._clear()
        elif self.entries > ENTRIES:
            largest = max(range(len(self._held)), key=lambda one: len(self._held[one]))
            self._give_up(largest, BATCH)

    def bit(self, id_: EndpointId) -> int:
        """The endpoint's in the masks; changes when it was lost."""
        return 1 << self._seat(id_)

    def blocks(self, id_: EndpointId) -> int:
        """How much an endpoint is taken to hold."""
        seat = self._seats.get(id_)
        return 0 if seat is None else self._blocks[seat]

    def lost(self, id_: EndpointId) -> None:
        """The endpoint's cache is gone."""
        seat = self._seats.pop(id_, None)
        if seat is not None:
            self._leaving.append(seat)
            self._epoch += 1

    def _seat(self, id_: EndpointId) -> int:
        seat = self._seats.get(id_)
        if seat is None:
            if self._free:
                seat = self._free.pop()
            else:
                seat = len(self._held)
                self._held.append(OrderedDict())
                self._blocks.append(0)
            self._seats[id_] = seat
        return seat

    def _clear(self) -> None:
        """Go on forgetting what was held by endpoints that were lost."""
        seat = self._leaving[-1]
        self._give_up(seat, BATCH)
        if not self._held[seat]:
            self._free.append(self._leaving.pop())

    def _give_up(self, seat: int, most: int, excess: float = inf) -> None:
        """Forget what an endpoint has not used for longest.

        Args:
            most: entries.
            excess: blocks that are too many.
        """
        held, holders, others = self._held[seat], self._holders, ~(1 << seat)
        blocks = given = 0
        while held and given < most and blocks < excess:
            name, value = held.popitem(last=False)
            blocks += GAINS[value & _POSITION]
            given += 1
            mask = holders[name] & others
            if mask:
                holders[name] = mask
            else:
                del holders[name]
        self.entries -= given
        self._blocks[seat] -= blocks

    def _sweep(self, now: float) -> None:
        """Forget what has aged: every hundredth of the time to live, or at once if much is left."""
        oldest = int((now - self.ttl) * 1000) << _POSITIONS
        left = BATCH
        for seat, held in enumerate(self._held):
            aged = 0
            for value in islice(held.values(), left):
                if value >= oldest:
                    break
                aged += 1
            self._give_up(seat, aged)
            left -= aged
            if not left:
                return
        self._swept_at = now + self.ttl / 100

    def __len__(self) -> int:
        return self.entries

    def __repr__(self) -> str:
        return (
            f"<PrefixIndex {len(self._seats)} endpoints, {self.entries} entries, "
            f"{sum(self._blocks)} blocks>"
        )


def walk(holders: Mapping[int, int], names: Sequence[int], rows: Rows) -> Matches | None:
    """Go down a prompt's names as far as anybody holds them; None: nobody holds anything.

    Args:
        holders: a mask of hosts by name.
    """
    left = rows.everybody
    groups: list[tuple[int, int]] = []  # how deep, and who comes so far and no further
    for depth, name in enumerate(names):
        still = left & holders.get(name, 0)
        if still != left:
            groups.append((depth, left ^ still))
            if not still:
                break
            left = still
    else:
        groups.append((len(names), left))
    if len(groups) == 1 and not groups[0][0]:
        return None
    return _spread(groups, rows)


def _spread(groups: list[tuple[int, int]], rows: Rows) -> Matches:
    """From groups of hosts to a number for each; the largest group is written at once."""
    most = max(range(len(groups)), key=lambda one: groups[one][1].bit_count())
    matches = [groups[most][0]] * len(rows.bits)
    places = rows.places
    for one, (depth, left) in enumerate(groups):
        mask = 0 if one == most else left
        while mask:
            bit = mask & -mask
            matches[places[bit]] = depth
            mask ^= bit
    return matches
