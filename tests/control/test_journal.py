"""The journal: what it keeps, how a reader resumes, and what becomes of one that is slow."""

import asyncio

import pytest

from router.control import journal
from router.control.breaker_watch import BreakerWatch
from router.control.journal import BACKLOG, MAX_FOLLOWERS, Journal, TooManyFollowers
from router.telemetry.totals import Totals
from tests.core.world import snapshot


def numbers(events: list[journal.Event]) -> list[int]:
    return [event.number for event in events]


def filled(count: int, history: int = 8) -> Journal:
    kept = Journal(history, wall=lambda: 1.0)
    for index in range(count):
        kept.add("audit", index=index)
    return kept


def test_it_keeps_the_last_ones() -> None:
    kept = filled(20)
    assert numbers(kept.last(3)) == [18, 19, 20]
    assert numbers(kept.last(100)) == list(range(13, 21))
    assert kept.last(0) == []


@pytest.mark.parametrize(
    ("id_", "found", "missed"),
    [
        ("3e8-20", [], False),
        ("3e8-18", [19, 20], False),
        ("3e8-12", list(range(13, 21)), False),
        ("3e8-11", list(range(13, 21)), True),  # the twelfth is gone
        ("77-18", list(range(13, 21)), True),  # another run's
        ("nonsense", list(range(13, 21)), True),
    ],
)
def test_a_reader_resumes_after_its_last_event(id_: str, found: list[int], missed: bool) -> None:
    events, some_missed = filled(20).since(id_)
    assert (numbers(events), some_missed) == (found, missed)


def test_an_unknown_kind_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Journal().add("weather", rain=True)


def test_long_fields_are_cut() -> None:
    kept = Journal()
    kept.add("discovery", error="x" * 10_000, added=[str(n) for n in range(100)])
    [event] = kept.last(1)
    assert len(event.fields["error"]) == journal.MAX_TEXT
    assert event.fields["added"][-1] == "and 80 more"


async def test_followers_are_told_in_order() -> None:
    kept = Journal()
    follower = kept.follow()
    kept.add("worker", state="died")
    kept.add("worker", state="started")
    first, second = await follower.next(1), await follower.next(1)
    assert first is not None and second is not None
    assert [first.fields["state"], second.fields["state"]] == ["died", "started"]
    assert await follower.next(0.001) is None


async def test_one_event_wakes_all_that_wait() -> None:
    kept = Journal()
    waiting = [asyncio.create_task(kept.follow().next(5)) for _ in range(3)]
    await asyncio.sleep(0)
    kept.add("router", state="draining")
    assert all(event is not None for event in await asyncio.gather(*waiting))


async def test_a_slow_follower_is_let_go_after_what_it_was_given() -> None:
    kept = Journal()
    slow, quick = kept.follow(), kept.follow()
    for _ in range(BACKLOG):
        kept.add("audit")
        assert await quick.next(1) is not None
    kept.add("audit")
    assert slow.lost and not quick.lost
    assert (kept.followers, kept.lost) == (1, 1)
    for _ in range(BACKLOG):
        assert await slow.next(1) is not None
    assert await slow.next(1) is None


async def test_followers_are_bounded() -> None:
    kept = Journal()
    followers = [kept.follow() for _ in range(MAX_FOLLOWERS)]
    with pytest.raises(TooManyFollowers, match="64 follow"):
        kept.follow()
    kept.leave(followers[0])
    kept.follow()


def test_a_breaker_opens_and_closes_once() -> None:
    kept = Journal()
    totals = Totals()
    active = {"c": 0}
    watch = BreakerWatch(kept.add, lambda name: active[name], lambda: totals)
    clusters = list(snapshot(1).clusters.values())
    limit = clusters[0].breaker.max_requests

    def look(in_flight: int, refused: int) -> None:
        active["c"] = in_flight
        totals.counters["requests_total"] = {("r", "c", "-", "503", "UO"): float(refused)}
        watch.look(clusters)

    look(0, 0)
    look(limit, 0)  # at its limit
    look(limit, 3)
    look(limit - 1, 5)  # no longer at it, but refused some since the last look
    look(limit - 1, 5)
    look(limit - 1, 5)
    assert [(e.fields["state"], e.fields.get("refused")) for e in kept.last(10)] == [
        ("open", None),
        ("closed", 5),
    ]
