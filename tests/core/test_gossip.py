"""Routers that tell each other where they sent prompts, as timelines with a hand clock."""

import pytest

from router.core.forecast import gossip, notes, peers
from router.core.forecast.gossip import Gossip
from router.core.forecast.peers import Peers
from router.core.host import Outcome
from router.core.model import EndpointId
from tests.core.mirrored import estimated
from tests.core.routers import CLUSTER, Net, Router, chat


def pair() -> tuple[Router, Router, Net]:
    first, second = Router(1), Router(2)
    return first, second, Net(first, second)


def test_two_routers_agree_on_lines_and_caches() -> None:
    one, two, net = pair()
    work = one.send(chat(4000), 1, 0.0)
    other = two.send(chat(9000, seed=1), 0, 0.0)
    net.carry(0.0)
    assert one.lines() == two.lines()
    assert two.wait(1, 0.0) == pytest.approx(work.cost)
    assert one.wait(0, 0.0) == pytest.approx(other.cost)

    work.first_token(0.1, True)
    net.carry(0.1)
    assert one.lines() == two.lines()
    assert [line[1] for line in two.lines()] == [0, 1], "it decodes"

    work.ended(Outcome.SUCCESS, 1.0)
    other.ended(Outcome.SUCCESS, 1.0)
    net.carry(1.0)
    assert one.lines() == two.lines() == [(0, 0, 0.0)] * 2
    assert two.where(chat(5000), 2.0) == (1, "prefix hit"), "the next turn, at the other router"
    assert two.held(chat(5000)) == one.held(chat(5000))


def test_a_pace_is_learned_from_others_first_tokens() -> None:
    one, two, net = pair()
    now = 0.0
    for seed in range(100):
        work = one.send(chat(8000, seed), 0, now)
        net.carry(now)
        now += 3.0 * work.cost
        work.first_token(now, True)
        work.ended(Outcome.SUCCESS, now)
        net.carry(now)
        now += 5.0
    paces = [router.forecast.of(router.hosts[0].id).pace for router in (one, two)]
    assert paces[0] == pytest.approx(paces[1])
    assert paces[0] > 2.0


def test_what_was_never_read_is_in_nobodys_mirror() -> None:
    one, two, net = pair()
    one.send(chat(4000), 1, 0.0).ended(Outcome.CONNECT_FAILURE, 0.1)
    net.carry(0.1)
    assert two.where(chat(4000), 0.2)[1] == "new prefix, least work"


def test_answers_without_a_stream_are_followed_too() -> None:
    one, two, net = pair()
    work = one.send(chat(8000, stream=False), 0, 0.0)
    net.carry(0.0)
    now = work.cost + 0.01
    two.where(chat(10), now)
    assert two.lines()[0][:2] == (0, 1), "assumed to be computed"
    net.look(now)
    net.carry(now)
    assert two.lines()[0][:2] == (0, 1), "the roster does not put it in line again"
    work.first_token(now + 1, False)
    work.ended(Outcome.SUCCESS, now + 1)
    net.carry(now + 1)
    assert two.lines()[0][:2] == (0, 0)


def test_a_lost_end_is_made_good_by_the_next_roster() -> None:
    one, two, net = pair()
    works = [one.send(chat(3000, seed), 0, 0.0) for seed in range(3)]
    net.carry(0.0)
    works[0].first_token(0.1, True)
    works[1].ended(Outcome.ABANDONED, 0.1)
    one.gossip.take()  # into the void
    assert two.lines()[0][:2] == (3, 0)
    pace = two.forecast.pace.ratio
    one.gossip.look(5.0)
    net.carry(5.0)
    assert two.lines() == one.lines()
    assert two.forecast.pace.ratio == pace, "of a first token that it did not see it learns nothing"
    assert two.gossip.peers.expired == 1
    works[2].first_token(6.0, True)
    net.carry(6.0)
    assert two.gossip.peers.lost == 1, "the envelope that never came was counted"


def test_envelopes_that_come_twice_or_late() -> None:
    one, two, _ = pair()
    work = one.send(chat(3000), 0, 0.0)
    sent = one.gossip.take()
    work.first_token(0.1, True)
    heard = one.gossip.take()
    work.ended(Outcome.SUCCESS, 0.2)
    ended = one.gossip.take()
    for _, data in (*sent, *heard, *sent, *ended, *heard, *sent):
        two.gossip.hear(data, 0.3)
    assert two.lines() == [(0, 0, 0.0)] * 2
    assert two.gossip.peers.late == 3


def test_an_end_that_comes_before_its_beginning_leaves_nothing() -> None:
    one, two, net = pair()
    work = one.send(chat(3000), 0, 0.0)
    (_, sent), *_ = one.gossip.take()
    work.ended(Outcome.SUCCESS, 0.2)
    (_, ended), *_ = one.gossip.take()
    two.gossip.hear(ended, 0.2)
    two.gossip.hear(sent, 0.2)
    assert two.lines()[0] == (0, 0, 0.0)
    net.look(1.0)
    net.carry(1.0)
    assert (two.lines(), two.gossip.peers.works) == ([(0, 0, 0.0)] * 2, 0)


def test_a_router_of_whom_nothing_is_heard_is_gone() -> None:
    one, two, net = pair()
    one.send(chat(3000), 0, 0.0).first_token(0.1, True)
    one.send(chat(3000, 1), 0, 0.2)
    net.carry(0.2)
    assert two.lines()[0][:2] == (1, 1)
    net.kill(1)
    for now in range(1, 11):
        two.gossip.look(float(now))
    assert two.lines()[0][:2] == (1, 1), "it may just be slow"
    two.gossip.look(peers.SILENCE + 0.3)
    assert two.lines()[0] == (0, 0, 0.0)
    assert (len(two.gossip.peers), two.gossip.peers.works) == (0, 0)


def test_a_process_that_is_known_to_have_ended_is_gone_at_once() -> None:
    one, two, net = pair()
    one.send(chat(3000), 0, 0.0)
    net.carry(0.0)
    bye = notes.seal(1, 1, 0, 0, [notes.Bye()])
    two.gossip.hear(bye, 0.1)
    assert two.lines()[0] == (0, 0, 0.0)
    assert len(two.gossip.peers) == 0
    two.gossip.hear(bye, 0.2)
    assert len(two.gossip.peers) == 0


def test_a_router_that_begins_catches_up() -> None:
    one, two, net = pair()
    now = 0.0
    for seed in range(60):
        work = one.send(chat(2000, seed), seed % 2, now)
        work.first_token(now + 0.5, True)
        work.ended(Outcome.SUCCESS, now + 0.6)
        work.usage(2000, 0)
        now += 1.0
        net.carry(now)
    decoding = one.send(chat(700, 99), 0, now)
    decoding.first_token(now, True)
    two.send(chat(900, 98), 1, now)
    net.carry(now)

    late = Router(3)
    net.add(late)
    late.gossip.join(now + 2.0)
    net.carry(now + 2.0)
    assert late.lines() == [pytest.approx(line) for line in one.lines()]
    assert late.forecast.mirror.entries == one.forecast.mirror.entries
    assert late.forecast.trust.answers == 50, "enough to go on from"
    for seed in (3, 40):
        asked = chat(2500, seed)
        assert late.where(asked, now + 3.0) == (seed % 2, "prefix hit")
        assert late.held(asked) == one.held(asked)
    first = late.hosts[0].id
    assert late.forecast.of(first).pace == pytest.approx(one.forecast.of(first).pace, rel=0.02)
    decoding.ended(Outcome.SUCCESS, now + 3.0)
    net.carry(now + 3.0)
    assert late.lines()[0] == (0, 0, 0.0)


def test_another_is_asked_where_the_first_does_not_answer() -> None:
    one, two, net = pair()
    one.send(chat(4000), 0, 0.0).ended(Outcome.SUCCESS, 0.1)
    net.carry(0.1)
    late = Router(3)
    late.gossip.join(1.0)
    one.gossip.look(1.0)
    two.gossip.look(1.0)
    for router in (one, two):
        for _, data in router.gossip.take():
            late.gossip.hear(data, 1.0)
    asked = [to for to, _ in late.gossip.take() + late.gossip.take() if to]
    assert asked == [1], "one of them"
    net.kill(1)
    net.add(late)
    two.gossip.look(1.0 + gossip.PATIENCE)
    net.carry(1.0 + gossip.PATIENCE)
    assert late.forecast.mirror.entries == two.forecast.mirror.entries


def test_who_has_heard_as_much_asks_nobody() -> None:
    one, two, net = pair()
    one.gossip.join(0.0)
    two.gossip.join(0.0)
    for seed in range(20):
        one.send(chat(1000, seed), 0, 0.1)
    net.carry(0.1)
    net.look(1.0)
    net.carry(1.0)
    carried = net.carried
    net.look(4.0)
    net.carry(4.0)
    assert net.carried - carried == 2, "a roster each"


def test_what_the_newcomer_has_learned_already_counts_as_newest() -> None:
    one, _, net = pair()
    for seed in range(30):
        one.send(chat(2000, seed), 0, 0.0).ended(Outcome.SUCCESS, 0.1)
    net.carry(0.1)
    late = Router(3)
    net.add(late)
    late.send(chat(2000, 500), 0, 0.2).ended(Outcome.SUCCESS, 0.2)
    late.gossip.join(0.3)
    net.carry(0.3)
    page = late.forecast.of(late.hosts[0].id).page
    last = chat(2000, 500).checkpoints
    assert estimated(page)[-len(last) :] == list(last)
    assert len(page) == 31 * len(last)


def test_recollections_are_cut_short_where_the_newcomer_has_no_room() -> None:
    one, _, net = pair()
    for seed in range(100):
        one.send(chat(2000, seed), 0, 0.0).ended(Outcome.SUCCESS, 0.1)
    net.carry(0.1)
    late = Router(3)
    late.forecast.mirror.max_entries = 500
    net.add(late)
    late.gossip.join(0.3)
    net.carry(0.3)
    assert late.forecast.mirror.entries == 500
    assert late.where(chat(2000, 99), 1.0)[1] == "prefix hit", "the newest come first"


def test_requests_to_endpoints_that_are_not_known_here() -> None:
    one, two = Router(1, endpoints=3), Router(2, endpoints=2)
    net = Net(one, two)
    one.send(chat(3000), 2, 0.0)
    net.carry(0.0)
    assert (two.gossip.peers.unknown, two.gossip.peers.works) == (1, 0)
    two.gossip.follow({})
    one.send(chat(3000), 0, 0.0)
    net.carry(0.0)
    assert two.gossip.peers.unknown == 2


def test_a_cluster_that_is_not_followed_any_more_leaves_nothing_behind() -> None:
    one, two, net = pair()
    work = one.send(chat(3000), 0, 0.0)
    net.carry(0.0)
    one.gossip.follow({})
    work.ended(Outcome.SUCCESS, 0.1)
    assert not one.gossip.herald.open
    net.look(1.0)
    net.carry(1.0)
    assert two.lines()[0] == (0, 0, 0.0)
    one.gossip.follow({CLUSTER: (one.forecast, [host.id for host in one.hosts])})
    one.send(chat(3000), 0, 2.0)
    net.carry(2.0)
    assert two.lines()[0][0] == 1


def test_many_notes_are_several_envelopes() -> None:
    one, two, net = pair()
    works = [one.send(chat(8000, seed), 0, 0.0) for seed in range(300)]
    taken = one.gossip.take()
    assert max(len(data) for _, data in taken) < notes.ROOM * 1.2
    assert len(taken) > 8
    for _, data in taken:
        two.gossip.hear(data, 0.0)
    assert two.lines() == one.lines()
    for seed in range(800):
        works.append(one.send(chat(100, 1000 + seed), 1, 0.0))
    net.carry(0.0)
    net.look(1.0)
    net.carry(1.0)
    assert two.lines() == one.lines()
    assert two.gossip.peers.expired == 0, "no portion of the roster left a serial out"


def test_nobody_takes_what_it_has_to_tell() -> None:
    one = Router(1)
    for seed in range(5000):
        one.send(chat(100, seed), 0, 0.0).ended(Outcome.SUCCESS, 0.0)
    assert len(one.gossip.herald.notes) == 4096
    assert one.gossip.herald.kept_back == 10_000 - 4096


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        b"\x96\x01\x01\x02\x00\x01\xc1",
        notes.seal(1, 9, 0, 1, [notes.Sent(1, "e" * 513, 1.0, 1, 1, True, b"")]),
        notes.seal(1, 9, 0, 1, [notes.Sent(1, "e", float("nan"), 1, 1, True, b"")]),
        notes.seal(1, 9, 0, 1, [notes.Sent(1, "e", 1.0, 1, 1, True, b"x" * 449)]),
        notes.seal(1, 9, 0, 1, [notes.Roster(0, 1, (0,), (), 0)]),
    ],
)
def test_what_is_no_envelope_is_counted_and_nothing_else(data: bytes) -> None:
    one = Router(1)
    one.gossip.hear(data, 0.0)
    assert one.gossip.unreadable == 1
    assert len(one.gossip.peers) == 0


def test_another_version_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, net = pair()
    one.send(chat(100), 0, 0.0)
    monkeypatch.setattr(notes, "VERSION", 2)
    net.carry(0.0)
    assert two.lines()[0][0] == 1
    monkeypatch.setattr(notes, "VERSION", 1)
    two.gossip.hear(notes.seal(1, 9, 0, 1, []).replace(b"\x96\x01", b"\x96\x02"), 0.0)
    assert two.gossip.unreadable == 1


def test_what_is_for_another_or_from_oneself_is_not_read() -> None:
    one = Router(1)
    sent = notes.Sent(1, one.hosts[0].id, 10.0, 40, 1, True, b"")
    one.gossip.hear(notes.seal(1, 1, 0, 1, [sent]), 0.0)
    one.gossip.hear(notes.seal(1, 2, 3, 0, [sent]), 0.0)
    assert (one.gossip.peers.works, one.gossip.heard) == (0, 0)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_ORIGINS", 2)
    monkeypatch.setattr(peers, "MOST_WORKS", 5)
    router = Router(1)
    heard = Peers()
    heard.follow({host.id: router.forecast for host in router.hosts})
    assert heard.meet(11, 1, 0.0) is not None
    peer = heard.meet(12, 1, 0.0)
    assert peer is not None
    assert heard.meet(13, 1, 0.0) is None
    assert heard.refused == 1
    id_ = EndpointId("c/h0:80")
    sent = [notes.Sent(n, id_, 100.0, 400, n, True, b"") for n in range(1, 9)]
    heard.take(peer, sent, 0.0)
    assert (heard.works, heard.expired, list(peer.works)) == (5, 3, [4, 5, 6, 7, 8])
    assert len(router.forecast.of(id_).line) == 5


def test_whoever_asks_too_many_at_once_is_not_told() -> None:
    teller = Gossip(1, 1, lambda: None)
    for origin in range(2, 40):
        teller.hear(notes.seal(1, origin, 0, 1, [notes.Ask()]), 0.0)
    told = []
    while teller.talkative:
        told += [to for to, _ in teller.take() if to]
    assert set(told) == set(range(2, 2 + gossip.LISTENERS))
