"""What routers suppose of each other's prompts that they have not heard of yet."""

from math import exp

import msgspec
import pytest

from router.core.forecast import notes
from router.core.forecast.gossip import ROSTER
from router.core.forecast.peers import SILENCE
from router.core.forecast.unheard import LATEST, MEMORY, WEIGHT, lean, place
from router.core.host import Outcome
from tests.core.routers import Router, chat

LATE = 0.1


def talk(routers: list[Router], seconds: int, late: float, prompts: int) -> float:
    """Each sends so many prompts a second, and all is heard ``late``; until when."""
    now = 0.0
    for second in range(seconds):
        now = float(second)
        for router in routers:
            router.gossip.look(now)
            for one in range(prompts):
                seed = (second * prompts + one) * 100 + router.origin
                work = router.send(chat(4000, seed), one % 2, now)
                work.first_token(now + work.cost, True)
                work.ended(Outcome.SUCCESS, now + work.cost)
        told = [(r, data) for r in routers for _, data in r.gossip.take()]
        for origin, data in told:
            for other in routers:
                if other is not origin:
                    other.gossip.hear(data, now + late)
    return now


def supposed(router: Router) -> list[float]:
    return [router.forecast.of(host.id).unheard for host in router.hosts]


def test_who_hears_nobody_supposes_nothing() -> None:
    alone = Router(1)
    talk([alone], 20, LATE, 10)
    assert supposed(alone) == [0.0, 0.0]
    columns = alone.balancer.explain(chat(100), alone.hosts).hosts
    assert not any("unheard_s" in row for row in columns.values())


@pytest.mark.parametrize("late", [0.004, LATE, 0.9])
def test_how_late_others_are_heard_is_found_out(late: float) -> None:
    one, two = Router(1), Router(2)
    talk([one, two], 20, late, 1)
    for router, other in ((one, 2), (two, 1)):
        assert router.gossip.peers.delay(other) == pytest.approx(late)


def test_the_cost_of_a_prompt_as_far_as_one_is_likely_unheard() -> None:
    one, two = Router(1), Router(2)
    now = talk([one, two], 60, LATE, 10)
    for router in (one, two):
        router.gossip.look(now + 1.0)
        cost = router.forecast.cost(4000, 0.0, router.forecast.of(router.hosts[0].id).step)
        cost *= router.forecast.pace.ratio
        for host, seconds in zip(router.hosts, supposed(router), strict=True):
            # One prompt of the other is on its way, on average.
            mean = WEIGHT * cost * (1.0 - exp(-1.0))
            share = lean(router.origin, [3 - router.origin], host.id)
            assert seconds == pytest.approx(mean * share, rel=0.1)


def test_it_grows_with_the_delay_but_not_beyond_a_prompt() -> None:
    found = []
    for late in (0.005, 0.05, 0.5, 0.9):
        one, two = Router(1), Router(2)
        now = talk([one, two], 30, late, 10)
        one.gossip.look(now + 1.0)
        found.append(max(supposed(one)))
    assert found == sorted(found)
    assert found[0] < 0.1 * found[-1]
    assert found[-1] < 1.01 * found[-2]


def test_two_routers_have_opposite_orders() -> None:
    for index in range(8):
        endpoint = f"c/e{index}:8000"
        assert lean(1, [2], endpoint) + lean(2, [1], endpoint) == pytest.approx(2.0)
    assert lean(1, [], "c/e:8000") == 1.0 + place(1, "c/e:8000")


def test_routers_have_orders_of_their_own() -> None:
    orders = {
        tuple(sorted(range(8), key=lambda index: place(origin, f"c/e{index}:8000")))
        for origin in range(1, 21)
    }
    assert len(orders) == 20
    middle = sum(place(origin, "c/e:8000") for origin in range(1000)) / 1000
    assert middle == pytest.approx(0.5, abs=0.05)


def test_newcomers_of_two_routers_go_to_endpoints_of_their_own() -> None:
    one, two = Router(1, endpoints=8), Router(2, endpoints=8)
    now = talk([one, two], 30, LATE, 10)
    chosen = []
    for router, other in ((one, 2), (two, 1)):
        assert [line[:2] for line in router.lines()] == [(0, 0)] * 8
        router.gossip.look(now + 1.0)
        favourite = min(router.hosts, key=lambda host: lean(router.origin, [other], host.id))
        columns = router.balancer.explain(chat(4000, 10_000_000), router.hosts).hosts
        assert {row["unheard_s"] for row in columns.values()} == set(supposed(router))
        places = {router.where(chat(4000, 10_000_000), now + 1.0)[0] for _ in range(20)}
        assert places == {favourite.slot}
        chosen += places
    assert chosen[0] != chosen[1]


def test_it_is_forgotten_with_whoever_told() -> None:
    one, two = Router(1), Router(2)
    now = talk([one, two], 20, LATE, 10)
    assert min(supposed(one)) > 0.0
    two.gossip.take()
    one.gossip.look(now + SILENCE + 1.0)
    assert supposed(one) == [0.0, 0.0]

    one, two = Router(1), Router(2)
    now = talk([one, two], 20, LATE, 10)
    one.gossip.look(now + 1.0)
    before = max(supposed(one))
    # It lives, and sends nothing any more.
    for second in range(1, 31):
        two.gossip.look(now + second)
        for _, data in two.gossip.take():
            one.gossip.hear(data, now + second)
        one.gossip.look(now + second)
    assert max(supposed(one)) < before * 3 * exp(-30 / MEMORY)


def test_a_cluster_that_is_not_followed_any_more_supposes_nothing() -> None:
    one, two = Router(1), Router(2)
    talk([one, two], 20, LATE, 10)
    assert max(supposed(one)) > 0.0
    one.gossip.follow({})
    assert supposed(one) == [0.0, 0.0]


def test_all_of_many_are_told_when_they_were_heard() -> None:
    routers = [Router(origin) for origin in range(1, 21)]
    talk(routers, 40, LATE, 0)
    assert len(routers) > 2 * notes.ECHOES
    for router in routers:
        for other in routers:
            if other is not router:
                assert router.gossip.peers.delay(other.origin) == pytest.approx(LATE)


def test_echoes_of_rosters_that_were_never_told_mean_nothing() -> None:
    one, two = Router(1), Router(2)
    one.gossip.look(0.0)
    strange = (notes.Echo(1, 77, 0.0), notes.Echo(3, 1, 0.0), notes.Echo(1, 1, 1e9))
    two.gossip.herald.put(notes.Roster(0, 1, (), (), 0, 1, strange))
    for _, data in two.gossip.take():
        one.gossip.hear(data, 50.0)
    assert one.gossip.peers.delay(2) == 0.0
    two.gossip.herald.put(notes.Roster(0, 1, (), (), 0, 2, (notes.Echo(1, 1, 0.0),)))
    for _, data in two.gossip.take():
        one.gossip.hear(data, 50.0)
    assert one.gossip.peers.delay(2) == LATEST


def test_routers_that_know_of_no_rounds_are_understood() -> None:
    one = Router(1)
    old = msgspec.msgpack.encode([[4, 0, 1, [], [], 0]])
    envelope = notes.Envelope(notes.VERSION, 1, 2, 0, 1, msgspec.Raw(old))
    one.gossip.hear(msgspec.msgpack.encode(envelope), 0.0)
    assert one.gossip.unreadable == 0
    assert len(one.gossip.peers) == 1
    one.gossip.look(ROSTER)
    assert [echo for _, data in one.gossip.take() for echo in echoes(data)] == []


def echoes(data: bytes) -> list[notes.Echo]:
    told = notes.notes(notes.address(data))
    return [echo for note in told if isinstance(note, notes.Roster) for echo in note.echoes]
