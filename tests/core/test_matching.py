"""Conditions beyond host, path, method, headers and model: what they take, and what they say."""

import random
from typing import Any

import pytest

from router.core.matching import (
    AdapterIs,
    Condition,
    Matcher,
    PriorityIn,
    QueryIs,
    Share,
    SizeClass,
    SizeIs,
    StringMatch,
    TenantIs,
    TokenRange,
    TokensWithin,
)
from router.core.model import Priority
from router.core.routing import Destination, Route, RouteTable
from tests.core.world import request

RNG = random.Random(7)
SIZES = (
    SizeClass("small", TokenRange(high=1000), TokenRange(high=256)),
    SizeClass("medium", TokenRange(high=8000)),
    SizeClass("large"),
)
EXACT_2 = QueryIs("v", StringMatch("exact", "2"))
ADAPTERS = frozenset({"sql-lora", "chat-lora"})
ANY_ADAPTER = AdapterIs(ADAPTERS)

CASES: list[tuple[Condition, dict[str, Any], bool]] = [
    (EXACT_2, {"target": b"/q?v=2"}, True),
    (EXACT_2, {"target": b"/q?a=1&v=2&b"}, True),
    (EXACT_2, {"target": b"/q?v=3&v=2"}, False),  # the first counts
    (EXACT_2, {"target": b"/q?v=%32"}, False),  # as sent, as in Envoy
    (EXACT_2, {"target": b"/q?v"}, False),
    (EXACT_2, {"target": b"/q"}, False),
    (QueryIs("v", StringMatch("present")), {"target": b"/q?v"}, True),
    (QueryIs("v", StringMatch("present", invert=True)), {"target": b"/q?w=v"}, True),
    (QueryIs("v", StringMatch("exact", "2", invert=True)), {"target": b"/q?v=3"}, True),
    (QueryIs("v", StringMatch("exact", "2", invert=True)), {"target": b"/q"}, False),
    (QueryIs("v", StringMatch("prefix", "AB", ignore_case=True)), {"target": b"/?v=abc"}, True),
    (QueryIs("v", StringMatch("regex", "[0-9]+")), {"target": b"/?v=12x"}, False),
    (TenantIs(StringMatch("exact", "team-a")), {"tenant": "team-a"}, True),
    (TenantIs(StringMatch("exact", "team-a")), {}, False),
    (TenantIs(StringMatch("present", invert=True)), {}, True),
    (PriorityIn((Priority.LOW, Priority.HIGH)), {"priority": Priority.HIGH}, True),
    (PriorityIn((Priority.LOW, Priority.HIGH)), {}, False),
    (SizeIs(("small",), SIZES), {"body_bytes": 4000, "max_tokens": 256}, True),
    (SizeIs(("small",), SIZES), {"body_bytes": 4001, "max_tokens": 256}, False),
    (SizeIs(("small",), SIZES), {"body_bytes": 400}, False),  # may go on for as long as it likes
    (SizeIs(("medium",), SIZES), {"body_bytes": 400}, True),
    (SizeIs(("medium",), SIZES), {"body_bytes": 4000, "max_tokens": 9}, False),  # it is small
    (SizeIs(("medium", "large"), SIZES), {"body_bytes": 10**7}, True),
    (SizeIs(("small",), SIZES[:1]), {"body_bytes": 10**7}, False),  # of no class
    (TokensWithin(SizeClass(max_tokens=TokenRange(low=100))), {"max_tokens": 99}, False),
    (TokensWithin(SizeClass(max_tokens=TokenRange(low=100))), {}, True),
    (TokensWithin(SizeClass(prompt_tokens=TokenRange(2, 3))), {"body_bytes": 5}, True),
    (ANY_ADAPTER, {"model": "sql-lora"}, True),
    (ANY_ADAPTER, {"model": "llama"}, False),
    (ANY_ADAPTER, {}, False),
    (AdapterIs(ADAPTERS, "sql*"), {"model": "sql-lora"}, True),
    (AdapterIs(ADAPTERS, "sql*"), {"model": "chat-lora"}, False),
    (AdapterIs(ADAPTERS, "sql*"), {"model": "sql-other"}, False),  # not an adapter
    (AdapterIs(ADAPTERS, absent=True), {"model": "llama"}, True),
    (AdapterIs(ADAPTERS, absent=True), {"model": "sql-lora"}, False),
]


@pytest.mark.parametrize(("condition", "fields", "taken"), CASES)
def test_a_condition(condition: Condition, fields: dict[str, Any], taken: bool) -> None:
    asked = request(**fields)
    matcher = Matcher(more=(condition,))
    assert matcher.matches(asked, RNG) is taken
    assert matcher.mismatches(asked, RNG) == (() if taken else (condition.label,))
    words = matcher.words(condition.label, asked)
    assert words.startswith(condition.label) and "wants" in words


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (b"4", False),
        (b"5", True),
        (b"9", True),
        (b"10", False),
        (b"+7", True),
        (b"7.0", False),
        (b"seven", False),
        (b"", False),
        (b"-7", False),
    ],
)
def test_a_range_holds_its_start_and_not_its_end(value: bytes, taken: bool) -> None:
    matcher = Matcher(headers=(("x-n", StringMatch("range", low=5, high=10)),))
    assert matcher.matches(request(headers=((b"x-n", value),)), RNG) is taken


def test_case_is_ignored_where_it_is_asked_for() -> None:
    tier = Matcher(headers=(("x-tier", StringMatch("exact", "Gold", ignore_case=True)),))
    path = Matcher(path=StringMatch("prefix", "/V1/", ignore_case=True))
    assert tier.matches(request(headers=((b"x-tier", b"gOLD"),)), RNG)
    assert path.matches(request(path="/v1/x"), RNG)


# --- a share of the requests ------------------------------------------------------------------


def test_a_share_of_the_requests_is_drawn_anew_each_time() -> None:
    share, rng = Share(30, "a"), random.Random(12345)
    taken = sum(share.holds(request(prefix_hash=1), rng) for _ in range(10_000))
    assert abs(taken - 3000) < 150
    assert not any(Share(0, "a").holds(request(), rng) for _ in range(1000))
    assert all(Share(100, "a").holds(request(), rng) for _ in range(1000))


def test_a_share_of_the_conversations_is_always_the_same() -> None:
    share, other = Share(30, "a", by_conversation=True), Share(30, "b", by_conversation=True)
    chats = [request(prefix_hash=random.Random(key).getrandbits(64)) for key in range(10_000)]
    taken = {n for n, chat in enumerate(chats) if share.holds(chat, random.Random(1))}
    assert taken == {n for n, chat in enumerate(chats) if share.holds(chat, random.Random(2))}
    assert abs(len(taken) - 3000) < 150
    both = sum(other.holds(chats[n], RNG) for n in taken)
    assert abs(both - 900) < 120  # two routes do not take the same ones
    anew = sum(share.holds(request(), RNG) for _ in range(1000))
    assert 200 < anew < 400  # nothing to tell a conversation by


# --- adapters ---------------------------------------------------------------------------------


def route(name: str, **match: Any) -> Route:
    return Route(name=name, match=Matcher(**match), destinations=(Destination("c"),))


def test_a_route_for_a_model_takes_its_adapters_in_the_order_of_the_table() -> None:
    table = RouteTable(
        [
            route("sql", model="llama", adapters=ADAPTERS, more=(AdapterIs(ADAPTERS, "sql*"),)),
            route("llama", model="llama", adapters=ADAPTERS),
            route("by-name", model="chat-lora"),
            route("globbed", model="qw*", adapters=frozenset({"poet"})),
        ]
    )
    found = {}
    for model in ("sql-lora", "chat-lora", "llama", "poet", "qwen", "other"):
        taken = table.match(request(model=model), RNG)
        found[model] = taken.name if taken is not None else None
    assert found == {
        "sql-lora": "sql",
        "chat-lora": "llama",
        "llama": "llama",
        "poet": "globbed",
        "qwen": "globbed",
        "other": None,
    }
    assert table.knows("sql-lora") and not table.knows("other")
    assert table.models() == ("llama", "chat-lora")
