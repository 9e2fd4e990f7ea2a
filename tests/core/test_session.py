"""Sessions stay at their endpoint, with any balancer, until it cannot be used."""

import random
from collections import Counter

import pytest

from router.core.balancers import REGISTRY
from router.core.balancers.base import BalancerSpec
from router.core.balancers.round_robin import RoundRobin
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Connect, Head
from router.core.fleet import Fleet
from router.core.model import AdminState
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.session.policy import Session
from router.core.session.sticky import code_of
from router.core.session.table import SessionTable
from tests.core.world import request, snapshot

COOKIE = Session(kind="cookie", name="s", ttl=60.0, attributes="; Max-Age=60; Path=/")
ADDRESS = Session(kind="source_address", ttl=100.0)
HEADER = Session(kind="header", name="X-Session", ttl=100.0)
USER = Session(kind="user", ttl=100.0)


class Shop:
    """A director with sessions over four endpoints, and its clients."""

    def __init__(
        self,
        session: Session,
        balancer: BalancerSpec | None = None,
        seed: int = 1,
        table: SessionTable | None = None,
        **fields,
    ) -> None:
        fields.setdefault("balancer", balancer or RoundRobin.Spec())
        self.snapshot = snapshot(4, session=session, **fields)
        self.fleet = Fleet(sessions=SessionTable.of_size(64) if table is None else table)
        self.director = Director(self.snapshot, self.fleet, random.Random(seed))
        self.cookie: bytes | None = None

    def visit(self, now: float = 0.0, statuses: tuple[int, ...] = (200,), **fields) -> list[str]:
        """One request, its attempts answered so; returns where they went. Keeps the cookie."""
        if self.cookie is not None:
            fields["headers"] = ((b"cookie", b"a=b; s=" + self.cookie),)
        exchange = self.director.begin(request(**fields), now)
        effect = exchange.feed(START, now)
        tried = []
        for status in statuses:
            assert isinstance(effect, Connect)
            tried.append(effect.endpoint.host)
            exchange.feed(CONNECTED, now)
            effect = exchange.feed(Head(status), now)
        exchange.feed(COMPLETE, now)
        self.issued = exchange.cookie
        self.reason = exchange.reason
        if exchange.cookie is not None:
            self.cookie = exchange.cookie.partition(b";")[0].removeprefix(b"s=")
        return tried

    @property
    def counts(self) -> tuple[int, int, int]:
        counts = self.director.places("c").sessions
        return counts.kept, counts.begun, counts.moved

    def host(self, name: str):
        return next(h for h in self.fleet.hosts.values() if h.endpoint.host == name)


WAYS = [
    (COOKIE, {}),
    (ADDRESS, {"client": "192.0.2.7"}),
    (HEADER, {"headers": ((b"x-session", b"abc"),)}),
    (USER, {"user": "ann"}),
]


@pytest.mark.parametrize("balancer", [one.Spec() for one in REGISTRY])
@pytest.mark.parametrize(("session", "client"), WAYS)
def test_every_request_of_a_session_goes_to_one_endpoint(session, client, balancer) -> None:
    shop = Shop(session, balancer)
    rng = random.Random(2)
    places = {shop.visit(prefix_hash=rng.getrandbits(64), **client)[0] for _ in range(20)}
    assert len(places) == 1
    assert shop.counts == (19, 1, 0)
    assert shop.reason == "session"


@pytest.mark.parametrize(("session", "client"), WAYS)
def test_without_a_session_the_balancer_spreads(session, client) -> None:
    shop = Shop(session)
    places = Counter()
    for _ in range(40):
        shop.cookie = None
        places[shop.visit()[0]] += 1
    assert places == {f"h{index}": 10 for index in range(4)}


def test_the_cookie_is_issued_once_and_names_no_address() -> None:
    shop = Shop(COOKIE)
    [place] = shop.visit()
    assert shop.issued == b"s=" + code_of(shop.host(place)) + b"; Max-Age=60; Path=/"
    assert place.encode() not in shop.issued
    shop.visit()
    assert shop.issued is None


def test_a_quoted_cookie_is_read_too_and_a_strange_one_replaced() -> None:
    shop = Shop(COOKIE)
    [place] = shop.visit()
    assert shop.cookie is not None
    shop.cookie = b'"' + shop.cookie + b'"'
    assert shop.visit() == [place] and shop.issued is None
    shop.cookie = b"0123456789abcdef"
    shop.visit()
    assert shop.issued is not None and shop.reason.endswith(", session moved")


def test_a_cookie_holds_with_another_router() -> None:
    one, other = Shop(COOKIE), Shop(COOKIE, seed=99)
    [place] = one.visit()
    other.cookie = one.cookie
    assert [other.visit() for _ in range(3)] == [[place]] * 3
    assert other.issued is None


GONE = {
    "unhealthy": lambda shop, host: shop.fleet.set_health(host.id, False),
    "drained": lambda shop, host: shop.fleet.set_admin(host.id, AdminState.DRAIN),
    "ejected": lambda shop, host: shop.fleet.set_ejected(host.id, True),
    "full": lambda shop, host: shop.fleet.set_pushed(host.id, 5.0),
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize(("session", "client"), WAYS)
def test_a_session_whose_endpoint_is_gone_moves_for_good(session, client, gone) -> None:
    shop = Shop(session)
    [first] = shop.visit(**client)
    GONE[gone](shop, shop.host(first))
    [second] = shop.visit(**client)
    assert second != first and shop.reason.endswith(", session moved")
    for undo in (
        shop.fleet.set_health(shop.host(first).id, True),
        shop.fleet.set_admin(shop.host(first).id, AdminState.READY),
        shop.fleet.set_ejected(shop.host(first).id, False),
    ):
        assert undo is None
    assert [shop.visit(6.0, **client) for _ in range(3)] == [[second]] * 3
    assert shop.counts == (3, 1, 1)


@pytest.mark.parametrize(("session", "client"), WAYS)
def test_a_retry_elsewhere_takes_the_session_along(session, client) -> None:
    retry = RetryPolicy(on=RetryOn.FIVE_XX, min_retry_concurrency=9)
    shop = Shop(session, retry=retry)
    [first] = shop.visit(**client)
    tried = shop.visit(statuses=(503, 200), **client)
    assert tried[0] == first and tried[1] != first
    assert shop.visit(**client) == [tried[1]]


def test_it_expires_when_nobody_used_it_for_its_time() -> None:
    shop = Shop(ADDRESS)
    client = {"client": "192.0.2.7"}
    [first] = shop.visit(0.0, **client)
    assert shop.visit(99.0, **client) == [first]
    assert shop.visit(198.0, **client) == [first], "99 seconds since the last use"
    assert shop.counts == (2, 1, 0)
    shop.visit(298.1, **client)
    assert shop.counts == (2, 2, 0)


def test_workers_share_what_they_remember() -> None:
    table = SessionTable.of_size(64)
    one, other = Shop(ADDRESS, table=table), Shop(ADDRESS, table=table, seed=9)
    for number in range(10):
        client = {"client": f"192.0.2.{number}"}
        assert one.visit(**client) == other.visit(**client)


def test_a_reload_keeps_sessions_and_their_counts() -> None:
    shop = Shop(ADDRESS)
    client = {"client": "192.0.2.7"}
    [first] = shop.visit(**client)
    shop.director.update(snapshot(5, session=ADDRESS, generation=2))
    assert shop.visit(**client) == [first]
    assert shop.counts == (1, 1, 0)
    shop.director.update(snapshot(5, session=None, generation=3))
    shop.visit(**client)
    assert shop.counts == (1, 1, 0)


def test_the_table_is_bounded_and_gives_up_what_expires_first() -> None:
    table = SessionTable.of_size(4)
    keys = [(index + 1) << 20 for index in range(5)]
    for second, key in enumerate(keys[:4]):
        table.put(key, second, second, ttl=100.0)
    table.put(keys[0], 0, 50.0, ttl=100.0)  # in use again
    table.put(keys[4], 4, 60.0, ttl=100.0)
    assert [table.get(key, 60.0) for key in keys] == [0, None, 2, 3, 4]
    assert (len(table), table.forgotten) == (4, 1)
    table.put(keys[1], 1, 500.0, ttl=100.0)  # all others have expired: nobody is the worse for it
    assert table.forgotten == 1


def test_other_clusters_and_subsets_have_sessions_of_their_own() -> None:
    table = SessionTable.of_size(64)
    shop = Shop(ADDRESS, table=table)
    shop.visit(client="192.0.2.7")
    traffic = shop.director.traffic("c", (("v", "2"),))
    assert traffic.sticky is not None
    found = traffic.sticky.remembered(request(client="192.0.2.7"), traffic.hosts, 0.0)
    assert found == (True, None)


@pytest.mark.parametrize("entries", [0, 2, 6])
def test_sizes_that_make_no_table(entries: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        SessionTable.of_size(entries)
