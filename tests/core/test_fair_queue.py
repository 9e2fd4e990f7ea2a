"""Who is next: bands, shares, turns by age, lanes; and what a full queue does with a newcomer."""

from typing import Any

import pytest

from router.core.admission.band import IDLE_FLOWS, Ticket
from router.core.admission.drain_rate import DrainRate
from router.core.admission.fair_queue import AGED_TURN, FairQueue

NOBODY: Any = None


class Lane:
    late = None

    def __init__(self, room: bool = True) -> None:
        self.room = room

    def has_room(self) -> bool:
        return self.room


def queue(limit: int = 100, **fields: Any) -> FairQueue:
    return FairQueue(limit, **fields)


def served(line: FairQueue, now: float | None = None) -> list[str]:
    """The tenants in the order in which they are granted, until nobody waits."""
    order = []
    while (ticket := line.first(now)) is not None:
        assert line.first(now) is ticket, "asking changes nothing"
        order.append(ticket.key)
        line.granted(ticket)
    assert line.waiting == 0
    return order


def test_one_tenant_is_first_come_first_served() -> None:
    line = queue()
    tickets = [line.join(NOBODY, n, key="a", cost=9.0 - n) for n in range(5)]
    for ticket in tickets:
        assert line.first() is ticket
        line.granted(ticket)


def test_a_tenant_that_floods_only_lengthens_its_own_line() -> None:
    line = queue()
    for n in range(6):
        line.join(NOBODY, n, key="flood")
    line.join(NOBODY, 7, key="b")
    line.join(NOBODY, 8, key="b")
    assert served(line) == ["flood", "b", "flood", "b", "flood", "flood", "flood", "flood"]


def test_shares_are_counted_in_cost() -> None:
    line = queue()
    for n in range(3):
        line.join(NOBODY, n, key="long", cost=100)
    for n in range(6):
        line.join(NOBODY, n, key="short", cost=50)
    assert served(line) == ["long", "short", "short"] * 3


def test_weights() -> None:
    line = queue()
    for n in range(9):
        line.join(NOBODY, n, key="gold", weight=3)
        if n < 3:
            line.join(NOBODY, n, key="tin")
    order = served(line)
    assert order[:4].count("gold") == 3 and order[:8].count("gold") == 6


def test_bands_are_strict() -> None:
    line = queue()
    for level in (-1, 0, 1, 0, -1, 1):
        line.join(NOBODY, 0, key=str(level), level=level)
    assert served(line) == ["1", "1", "0", "0", "-1", "-1"]


def test_leaving_costs_a_tenant_nothing() -> None:
    line = queue()
    left = [line.join(NOBODY, n, key="a", cost=1000) for n in range(50)]
    line.join(NOBODY, 60, key="b")
    for ticket in left:
        line.leave(ticket)
    line.join(NOBODY, 61, key="a")
    line.join(NOBODY, 62, key="b")
    assert served(line) == ["a", "b", "b"]


def test_who_was_given_much_waits_for_the_others_even_after_leaving_the_line() -> None:
    line = queue()
    big = line.join(NOBODY, 0, key="a", cost=10)
    others = [line.join(NOBODY, 0, key="b") for _ in range(12)]
    assert line.first() is big
    line.granted(big)
    again = line.join(NOBODY, 1, key="a")
    order = served(line)
    assert order.index("a") == 10 and len(order) == 13
    assert not again.waiting and not others[0].waiting


def test_every_fourth_grant_goes_to_who_has_aged() -> None:
    line = queue(age_after=5.0)
    low = line.join(NOBODY, 0.0, key="low", level=-1)
    for n in range(20):
        line.join(NOBODY, 4.0 + n / 100, key="high", level=1)
    for _ in range(AGED_TURN + 1):  # nobody has waited long enough
        ticket = line.first(4.9)
        assert ticket is not None and ticket.key == "high"
        line.granted(ticket)
    granted = 0
    while low.waiting:
        ticket = line.first(5.1)
        assert ticket is not None
        line.granted(ticket)
        granted += 1
    assert granted <= AGED_TURN


def test_lanes_without_room_are_passed_over() -> None:
    full, free = Lane(room=False), Lane()
    line = queue()
    first = line.join(NOBODY, 0, key="a", level=1, lane=full)
    second = line.join(NOBODY, 1, key="a", lane=free)
    assert line.first(100.0) is second
    line.granted(second)
    assert line.first(100.0) is None
    full.room = True
    assert line.first(100.0) is first


class TestFull:
    """Who gives up its place to a newcomer."""

    def fill(self, *waiting: tuple[str, int]) -> tuple[FairQueue, list[Ticket]]:
        line = queue(limit=len(waiting))
        return line, [line.join(NOBODY, n, key=k, level=p) for n, (k, p) in enumerate(waiting)]

    @pytest.mark.parametrize(
        ("waiting", "newcomer", "displaced"),
        [
            ([("a", 0), ("a", 0)], ("a", 0), None),
            ([("a", 0), ("a", 0)], ("b", 0), 1),
            ([("a", 0), ("b", 0)], ("c", 0), None),
            ([("a", 0), ("a", 0), ("b", 0)], ("b", 0), None),
            ([("a", 0), ("a", 0), ("a", 0), ("b", 0)], ("b", 0), 2),
            ([("a", -1), ("b", 0), ("b", 0)], ("c", 0), 0),
            ([("a", -1), ("a", -1), ("b", 0)], ("c", -1), 1),
            ([("a", 1), ("a", 1)], ("c", 0), None),
            ([("a", 0), ("a", 0)], ("a", 1), 1),
        ],
    )
    def test_newest_of_the_longest_line_of_the_lowest_band(
        self, waiting: list[tuple[str, int]], newcomer: tuple[str, int], displaced: int | None
    ) -> None:
        line, tickets = self.fill(*waiting)
        expected = None if displaced is None else tickets[displaced]
        assert line.displaced_by(*newcomer) is expected

    def test_a_bound_per_tenant(self) -> None:
        line = queue(per_key=2)
        tickets = [line.join(NOBODY, 0, key="a", level=level) for level in (0, 1)]
        assert line.bars("a") and not line.bars("b")
        line.leave(tickets[0])
        assert not line.bars("a")


def test_positions() -> None:
    line = queue()
    first = [line.join(NOBODY, 0, key="a") for _ in range(4)]
    assert [line.position(ticket) for ticket in first] == [1, 2, 3, 4]
    assert line.prospect("a", 0) == 5
    assert line.prospect("b", 0) == 2
    assert line.prospect("b", 0, weight=0.5) == 3
    assert line.prospect("b", -1) == 5
    assert line.prospect("b", 1) == 1
    other = line.join(NOBODY, 0, key="b")
    assert line.position(other) == 2
    line.granted(first[0])
    assert line.position(first[3]) == 4
    assert line.by_level() == {0: 4}


def test_what_is_struck_out_does_not_pile_up() -> None:
    line = queue(limit=10**6)
    stays = line.join(NOBODY, 0, key="stays")
    for n in range(20_000):
        line.leave(line.join(NOBODY, n, key="stays"))
        line.leave(line.join(NOBODY, n, key=f"once {n % 3000}"))
    band = stays.flow.band
    assert line.waiting == 1 and len(line._by_key) == 1
    assert len(stays.flow.line) < 200
    assert len(band.arrivals[None]) < 200
    for n in range(5000):
        ticket = line.join(NOBODY, 0, key=f"served {n}", cost=1 + n)
        line.granted(ticket)
    assert len(band.flows) <= 2 + IDLE_FLOWS
    assert len(band.heaps[None]) <= 2 * len(band.flows) + 64
    line.leave(stays)
    assert not line._bands and not line._by_key


class TestDrainRate:
    def test_unknown_before_anything_was_measured(self) -> None:
        assert DrainRate().observe(0, 5.0, waiting=False) is None

    def test_a_steady_rate_is_found_and_followed(self) -> None:
        drain, ended, now = DrainRate(), 0, 100.0
        drain.observe(0, now, waiting=False)
        for per_second in (4, 1):
            for _ in range(150):
                now += 1.0
                ended += per_second
                rate = drain.observe(ended, now, waiting=True)
            assert rate == pytest.approx(per_second, rel=0.04)

    def test_what_happened_while_there_was_room_does_not_count(self) -> None:
        drain = DrainRate()
        drain.observe(0, 0.0, waiting=False)
        rate = drain.observe(20, 2.0, waiting=True)
        assert rate == pytest.approx(10.25, rel=0.01)
        # An hour with next to no traffic, then it is full again.
        assert drain.observe(30, 3600.0, waiting=False) == rate
        assert drain.observe(40, 3601.0, waiting=True) == pytest.approx(10.1, abs=0.2)

    def test_no_grant_yet_is_not_never(self) -> None:
        drain = DrainRate()
        drain.observe(0, 0.0, waiting=False)
        assert drain.observe(0, 5.0, waiting=True) == pytest.approx(0.1, abs=0.02)
