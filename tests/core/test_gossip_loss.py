"""Whatever a net does to envelopes, routers agree again once a roster comes through."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.forecast.work import Phase, PrefillWork
from router.core.host import Outcome
from tests.core.mirrored import pairs
from tests.core.routers import Router, chat, open_works

ROUTERS = 3

Fate = tuple[int, ...]
"""For each reader of an envelope: how often it comes; 3: once, but only at the end."""


@dataclass
class BadNet:
    routers: list[Router]
    delayed: list[tuple[Router, bytes]] = field(default_factory=list)

    def carry(self, now: float, fate: Fate) -> None:
        step = 0
        for router in self.routers:
            while router.gossip.talkative:
                for to, data in router.gossip.take():
                    for other in self.routers:
                        if other is router or to not in (0, other.origin):
                            continue
                        times = fate[step % len(fate)]
                        step += 1
                        if times == 3:
                            self.delayed.append((other, data))
                        for _ in range(times % 3):
                            other.gossip.hear(data, now)

    def late(self, now: float) -> None:
        for router, data in reversed(self.delayed):
            router.gossip.hear(data, now)
        self.delayed.clear()


actions = st.tuples(
    st.sampled_from(["send", "send", "token", "end", "look", "wait", "late"]),
    st.integers(0, ROUTERS - 1),
    st.integers(0, 7),
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple),
)


Known = dict[tuple[int, int], dict[int, PrefillWork]]
"""By reader and writer: what the one knows of what the other has under way."""


def known(routers: list[Router]) -> Known:
    found: Known = {}
    for reader in routers:
        for writer in routers:
            if writer is not reader:
                peer = reader.gossip.peers._peers.get(writer.origin)
                found[reader.origin, writer.origin] = {} if peer is None else dict(peer.works)
    return found


def agree(routers: list[Router], before: Known) -> None:
    """Each knows all that it knew which is under way still, nothing that is over, and how far."""
    by_origin = {router.origin: router for router in routers}
    for (reader, writer), works in known(routers).items():
        under_way = open_works(by_origin[writer])
        assert set(before[reader, writer]) & set(under_way) <= set(works) <= set(under_way)
        for serial, work in works.items():
            if work.streamed:
                assert work.phase is under_way[serial]


def sound(router: Router) -> None:
    """What is summed up is the sum, and the mirror's halves fit together."""
    mirror = router.forecast.mirror
    pages = [one.page for _, one in router.forecast.outlooks()]
    assert mirror.entries == sum(map(len, pages)) == pairs(mirror)
    peers = router.gossip.peers
    assert peers.works == sum(len(peer.works) for peer in peers._peers.values())
    works = [*router.gossip.herald.open.values()]
    works += [work for peer in peers._peers.values() for work in peer.works.values()]
    line = sum(len(one.line) for _, one in router.forecast.outlooks())
    decoding = sum(one.decoding for _, one in router.forecast.outlooks())
    assert line == sum(1 for work in works if work.phase is Phase.WAITING)
    assert decoding == sum(1 for work in works if work.phase is Phase.DECODING)


def act(action: str, router: Router, number: int, works: list[PrefillWork], now: float) -> None:
    """One thing that happens at a router, or to one of the requests under way."""
    if action == "send":
        asked = chat(700 * (number + 1), number, stream=number % 3 > 0)
        works.append(router.send(asked, number % 2, now))
    elif action == "look":
        router.gossip.look(now)
    elif works and action == "token":
        work = works[number % len(works)]
        work.first_token(now, work.streamed)
    elif works and action == "end":
        works.pop(number % len(works)).ended(list(Outcome)[number], now)


@settings(max_examples=150, deadline=None)
@given(st.lists(actions, max_size=40))
def test_any_loss_is_healed(history: list[tuple[str, int, int, Fate]]) -> None:
    routers = [Router(origin + 1) for origin in range(ROUTERS)]
    net = BadNet(routers)
    works: list[PrefillWork] = []
    now = 0.0
    routers[2].gossip.join(now)
    for action, who, number, fate in history:
        act(action, routers[who], number, works, now)
        if action == "late":
            net.late(now)
        now += 1.5 if action == "wait" else 0.01
        net.carry(now, fate)
        for one in routers:
            one.where(chat(100), now)
            sound(one)
    net.late(now)

    now += 3.0
    for router in routers:
        router.gossip.look(now)
    before = known(routers)
    net.carry(now, (1,))
    agree(routers, before)

    for work in works:
        work.ended(Outcome.SUCCESS, now)
    net.carry(now, (0,))  # nobody hears of it
    now += 3.0
    for router in routers:
        router.gossip.look(now)
    net.carry(now, (1,))
    for router in routers:
        sound(router)
        assert router.lines() == [(0, 0, 0.0)] * 2
        assert router.gossip.peers.works == 0
        assert not router.gossip.herald.open
        for _, one in router.forecast.outlooks():
            assert (one.context, one.silent) == (0.0, 0)
