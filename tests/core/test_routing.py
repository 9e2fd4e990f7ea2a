"""Which route takes which request."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from router.core.routing import Destination, Matcher, Route, RouteTable, StringMatch
from tests.core.world import World, request, snapshot

RNG = random.Random(7)
X = (b"x-tier", b"gold")

CASES: list[tuple[str, Matcher, dict[str, Any], bool]] = [
    ("empty takes everything", Matcher(), {"model": None}, True),
    ("model", Matcher(model="llama"), {"model": "llama"}, True),
    ("other model", Matcher(model="llama"), {"model": "qwen"}, False),
    ("no model", Matcher(model="llama"), {"model": None}, False),
    ("model glob", Matcher(model="qwen*"), {"model": "qwen3-8b"}, True),
    ("method", Matcher(methods=("GET",)), {"method": "POST"}, False),
    ("path", Matcher(path=StringMatch("exact", "/v1/x")), {"path": "/v1/x"}, True),
    ("path prefix", Matcher(path=StringMatch("prefix", "/v1/")), {"path": "/v2/x"}, False),
    ("path regex is full", Matcher(path=StringMatch("regex", "/v1")), {"path": "/v1/x"}, False),
    ("host", Matcher(host="api.example.com"), {"authority": "API.example.com:8080"}, True),
    ("host wildcard", Matcher(host="*.example.com"), {"authority": "a.example.com"}, True),
    ("other host", Matcher(host="*.example.com"), {"authority": "example.org"}, False),
]
HEADER_CASES = [
    (StringMatch("exact", "gold"), (X,), True),
    (StringMatch("exact", "Gold"), (X,), False),
    (StringMatch("exact", "gold"), (), False),
    (StringMatch("exact", "gold", invert=True), (X,), False),
    (StringMatch("exact", "gold", invert=True), (), False),
    (StringMatch("present"), (X,), True),
    (StringMatch("present", invert=True), (X,), False),
    (StringMatch("present", invert=True), (), True),
    (StringMatch("suffix", "ld"), (X,), True),
    (StringMatch("contains", "ol"), (X,), True),
    (StringMatch("regex", "g.*d"), (X,), True),
    (StringMatch("exact", "gold,silver"), (X, (b"x-tier", b"silver")), True),
]


@pytest.mark.parametrize(("matcher", "fields", "taken"), [c[1:] for c in CASES], ids=lambda v: "")
def test_matcher(matcher: Matcher, fields: dict[str, Any], taken: bool) -> None:
    assert matcher.matches(request(**fields), RNG) is taken


@pytest.mark.parametrize(("condition", "headers", "taken"), HEADER_CASES)
def test_header_conditions(
    condition: StringMatch, headers: tuple[tuple[bytes, bytes], ...], taken: bool
) -> None:
    matcher = Matcher(headers=(("x-tier", condition),))
    assert matcher.matches(request(headers=headers), RNG) is taken
    assert matcher.mismatches(request(headers=headers), RNG) == (
        () if taken else ("header x-tier",)
    )


def route(name: str, **match: Any) -> Route:
    return Route(name=name, match=Matcher(**match), destinations=(Destination("c"),))


def test_the_index_by_model_keeps_the_order() -> None:
    gold = (("x-tier", StringMatch("exact", "gold")),)
    table = RouteTable(
        [
            route("gold-any", headers=gold),
            route("llama", model="llama"),
            route("globbed", model="l*"),
            route("llama-late", model="llama"),
            route("rest"),
        ]
    )
    for fields, name in [
        ({"model": "llama", "headers": (X,)}, "gold-any"),
        ({"model": "llama"}, "llama"),
        ({"model": "lorca"}, "globbed"),
        ({"model": "qwen"}, "rest"),
        ({"model": None}, "rest"),
    ]:
        found = table.match(request(**fields), RNG)
        assert found is not None
        assert found.name == name
    assert table.models() == ("llama",)
    assert table.knows("anything")
    assert not RouteTable([route("llama", model="llama")]).knows("qwen")


def test_weights_are_drawn_once_per_request() -> None:
    arms = (Destination("c", 80), Destination("c", 20, (("v", "2"),)))
    split = Route(name="split", match=Matcher(), destinations=arms)
    rng = random.Random(12345)
    drawn = Counter(split.destination(request(), rng).weight for _ in range(10_000))
    assert abs(drawn[20] - 2000) < 150


def test_a_conversation_keeps_its_arm_and_conversations_are_shared_by_weight() -> None:
    arms = (Destination("c", 90), Destination("c", 10, (("v", "2"),)))
    split = Route(name="split", match=Matcher(), destinations=arms)
    other = Route(name="other", match=Matcher(), destinations=arms)
    keys = [random.Random(key).getrandbits(64) for key in range(5000)]
    chats = [request(prefix_hash=key) for key in keys]
    first = [split.destination(chat, random.Random(1)).weight for chat in chats]
    assert first == [split.destination(chat, random.Random(2)).weight for chat in chats]
    assert abs(first.count(10) - 500) < 75
    both = sum(
        split.destination(chat, random.Random(1)).weight == 10
        and other.destination(chat, random.Random(1)).weight == 10
        for chat in chats
    )
    assert both < 100  # independent: about 1 in 100, not 1 in 10
    anew = Route(name="split", match=Matcher(), destinations=arms, split="request")
    rng = random.Random(12345)
    assert {anew.destination(chats[0], rng).weight for _ in range(200)} == {90, 10}


@pytest.mark.parametrize(
    ("split", "session"),
    [
        ("header:x-session", lambda n: {"headers": ((b"x-session", b"%d" % n),)}),
        ("cookie:sid", lambda n: {"headers": ((b"cookie", b"a=1; sid=%d" % n),)}),
        ("user", lambda n: {"user": f"{n}"}),
        ("tenant", lambda n: {"tenant": f"{n}"}),
        ("source_ip", lambda n: {"client": f"10.0.{n // 256}.{n % 256}"}),
    ],
)
def test_a_session_keeps_its_arm_over_conversations(
    split: str, session: Callable[[int], dict[str, Any]]
) -> None:
    arms = (Destination("c", 90), Destination("c", 10))
    route = Route(name="split", match=Matcher(), destinations=arms, split=split)

    def drawn(number: int, chat: int | None, seed: int = 1) -> int:
        fields = session(number) if number else {}
        asked = request(prefix_hash=chat, **fields)
        return route.destination(asked, random.Random(seed)).weight

    first = [drawn(number, chat=7) for number in range(1, 2001)]
    assert abs(first.count(10) - 200) < 45
    assert first == [drawn(number, chat=number, seed=2) for number in range(1, 2001)]
    # Without a session the conversation decides, and without that chance does.
    assert len({drawn(0, chat=5, seed=seed) for seed in range(50)}) == 1
    assert len({drawn(0, chat=None, seed=seed) for seed in range(50)}) == 2


def test_weights_whose_sum_stays_move_as_few_as_they_must() -> None:
    def arm_of(key: int, *weights: int) -> int:
        arms = tuple(Destination(f"c{index}", weight) for index, weight in enumerate(weights))
        route = Route(name="split", match=Matcher(), destinations=arms)
        return arms.index(route.destination(request(prefix_hash=key), random.Random(1)))

    moves = Counter((arm_of(key, 90, 10), arm_of(key, 80, 20)) for key in range(3000))
    assert (1, 0) not in moves
    assert abs(moves[0, 1] - 300) < 60


def test_subsets_see_only_their_endpoints() -> None:
    world = World(snapshot(3))
    assert world.director.traffic("c", (("version", "v2"),)).hosts.all == ()
    assert len(world.director.traffic("c").hosts.all) == 3
