"""The index of routes finds what trying them in their order finds."""

import random

from hypothesis import given
from hypothesis import strategies as st

from router.core.matching import Share
from router.core.routing import Destination, Matcher, Route, RouteTable, StringMatch
from tests.core.world import request

VALUES = ("a", "b", "A", "a,b", "é", "☃")
KINDS = ("exact", "prefix", "present")

conditions = st.builds(
    StringMatch,
    kind=st.sampled_from(KINDS),
    value=st.sampled_from(VALUES),
    invert=st.booleans(),
    ignore_case=st.booleans(),
)
headers = st.lists(st.tuples(st.sampled_from(("x-tier", "x-team")), conditions), max_size=2)
matchers = st.builds(
    Matcher,
    model=st.sampled_from((None, "m", "n", "m*")),
    methods=st.sampled_from(((), ("GET",))),
    headers=headers.map(tuple),
    adapters=st.sampled_from((frozenset(), frozenset({"l"}))),
    more=st.sampled_from(((), (Share(50, "s"),))),
)
sent = st.lists(
    st.tuples(
        st.sampled_from((b"x-tier", b"x-team")), st.sampled_from((b"a", b"b", b"A", b"\xe9"))
    ),
    max_size=3,
)


@given(
    st.lists(matchers, max_size=8),
    st.lists(st.tuples(sent, st.sampled_from((None, "m", "n", "l", "z"))), min_size=1, max_size=6),
)
def test_the_first_that_matches_wins_whatever_the_index(
    matches: list[Matcher],
    requests: list[tuple[list[tuple[bytes, bytes]], str | None]],
) -> None:
    routes = [
        Route(name=f"r{number}", match=match, destinations=(Destination("c"),))
        for number, match in enumerate(matches)
    ]
    table = RouteTable(routes)
    chance, same_chance = random.Random(1), random.Random(1)
    for lines, model in requests:
        one = request(headers=tuple(lines), model=model)
        tried = (route for route in routes if not route.match.mismatches(one, chance))
        assert table.match(one, same_chance) is next(tried, None)
    assert chance.random() == same_chance.random()
