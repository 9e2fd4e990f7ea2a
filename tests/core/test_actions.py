"""What routes change, and what they answer themselves."""

import random
from typing import Any

import pytest

from router.core.actions import (
    Actions,
    DirectResponse,
    PathRewrite,
    Preflight,
    Redirect,
    named,
)
from router.core.cors import Cors
from router.core.director import Director
from router.core.events import START, Answer, Connect, Reject
from router.core.fleet import Fleet
from router.core.header_edits import Facts, HeaderEdits, Template
from router.core.matching import Matcher, StringMatch
from router.core.model import AdminState, LlmRequest, Priority
from router.core.routing import Destination, Route, RouteTable
from router.core.snapshot import Snapshot
from router.core.states import State
from tests.core.world import endpoint, request, snapshot

FACTS = Facts(
    request(
        target=b"/x?a=1",
        authority="api.test",
        client="10.1.2.3",
        model="m\r\nx-evil: 1",
        tenant="team-a",
        priority=Priority.HIGH,
        headers=((b"x-src", b"S"), (b"x-two", b"1"), (b"x-two", b"2")),
    ),
    "r",
    "c",
    endpoint("h0"),
)


def fields(**values: str) -> tuple[tuple[bytes, Template], ...]:
    return tuple(
        (n.replace("_", "-").encode(), Template.parse(value)) for n, value in values.items()
    )


# --- headers ----------------------------------------------------------------------------------

EDITS: list[tuple[HeaderEdits, list[str], list[str]]] = [
    (HeaderEdits(add=fields(x_a="1")), ["X-A: 0"], ["X-A: 0", "x-a: 1"]),
    (HeaderEdits(set=fields(x_a="1")), ["X-A: 0", "x-b: 2", "x-a: 3"], ["x-b: 2", "x-a: 1"]),
    (HeaderEdits(default=fields(x_a="1")), ["X-A: 0"], ["X-A: 0"]),
    (HeaderEdits(default=fields(x_a="1")), [], ["x-a: 1"]),
    (HeaderEdits(remove=frozenset({b"x-a"})), ["X-A: 0", "x-ab: 1"], ["x-ab: 1"]),
    # removals come first
    (HeaderEdits(remove=frozenset({b"x-a"}), add=fields(x_a="1")), ["x-a: 0"], ["x-a: 1"]),
    # an empty value changes nothing
    (HeaderEdits(set=fields(x_a="%REQ(x-none)%")), ["x-a: 0"], ["x-a: 0"]),
]


@pytest.mark.parametrize(("edits", "before", "after"), EDITS)
def test_edits(edits: HeaderEdits, before: list[str], after: list[str]) -> None:
    lines = edits.apply([line.encode() for line in before], FACTS)
    assert [line.decode() for line in lines] == after


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("100%%", b"100%"),
        ("%REQ(X-Src)%-%REQ(x-none?x-src)%", b"S-S"),
        ("%REQ(x-two)%", b"1,2"),
        ("%REQ(:method)% %REQ(:path)% %REQ(:authority)%", b"POST /x?a=1 api.test"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", b"10.1.2.3"),
        ("%ROUTE_NAME%/%UPSTREAM_CLUSTER%/%UPSTREAM_HOST%", b"r/c/h0:80"),
        ("%TENANT% %PRIORITY%", b"team-a high"),
        ("%MODEL%", b"mx-evil: 1"),  # a body's text cannot end the line
    ],
)
def test_values_with_operators(text: str, value: bytes) -> None:
    assert Template.parse(text).render(FACTS) == value


@pytest.mark.parametrize("text", ["%START_TIME%", "50%", "%REQ%", "%ROUTE_NAME(x)%", "%REQ()%"])
def test_values_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="%"):
        Template.parse(text)


def test_a_destinations_edits_come_before_its_routes() -> None:
    arm, route = HeaderEdits(set=fields(x_a="arm")), HeaderEdits(set=fields(x_a="route"))
    assert Actions(request=(arm, route)).request_lines([], FACTS) == [b"x-a: route"]


# --- paths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewrite", "before", "after"),
    [
        (PathRewrite(prefix="/v2/", strip=8), b"/api/v1/chat?x=1", b"/v2/chat?x=1"),
        (PathRewrite(prefix="/", strip=4), b"/api/x", b"//x"),  # literally, as Envoy
        (PathRewrite(prefix="/new", strip=None), b"/old", b"/new"),
        (PathRewrite(pattern=r"/re/(\d+)/(.*)", substitution=r"/x/\2/\1"), b"/re/7/a", b"/x/a/7"),
        (PathRewrite(pattern="a", substitution="b"), b"/aa?a", b"/bb?a"),
        (PathRewrite(pattern="^/v1", substitution=""), b"/v1", b"/"),
    ],
)
def test_paths(rewrite: PathRewrite, before: bytes, after: bytes) -> None:
    assert rewrite.target(before) == after


# --- redirects --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirect", "asked", "location"),
    [
        (Redirect(path="/new"), {}, "http://api.test:8080/new?q=1"),
        (Redirect(path="/new?a=b"), {}, "http://api.test:8080/new?a=b"),
        (Redirect(path="/new", strip_query=True), {}, "http://api.test:8080/new"),
        (Redirect(host="other.test"), {}, "http://other.test/old/x?q=1"),
        (Redirect(scheme="https"), {}, "https://api.test:8080/old/x?q=1"),
        (Redirect(scheme="https"), {"authority": "api.test:80"}, "https://api.test/old/x?q=1"),
        (Redirect(scheme="https", port=8443), {}, "https://api.test:8443/old/x?q=1"),
        (Redirect(port=81), {"authority": "[::1]"}, "http://[::1]:81/old/x?q=1"),
        (Redirect(rewrite=PathRewrite(prefix="/n", strip=4)), {}, "http://api.test:8080/n/x?q=1"),
        (Redirect(path="/n"), {"headers": ((b"x-forwarded-proto", b"https"),)},
         "https://api.test:8080/n?q=1"),
        (Redirect(path="/n"), {"scheme": "https"}, "https://api.test:8080/n?q=1"),
        (Redirect(path="/n"), {"authority": ""}, "/n?q=1"),
    ],
)  # fmt: skip
def test_locations(redirect: Redirect, asked: dict[str, Any], location: str) -> None:
    defaults: dict[str, Any] = {"authority": "api.test:8080"}
    told = request(path="/old/x", target=b"/old/x?q=1", **(defaults | asked))
    assert redirect.location(told) == location


# --- in an exchange ---------------------------------------------------------------------------

CORS = Cors(
    origins=(StringMatch("exact", "https://a.test"), StringMatch("suffix", ".b.test")),
    methods="GET, POST",
    headers="authorization",
    expose="x-request-id",
    max_age=600,
    credentials=True,
)
ORIGIN = (b"origin", b"https://a.test")
ASKS = (b"access-control-request-method", b"POST")


def director(*routes: Route, cors: Cors | None = None, **table: Any) -> Director:
    clusters = snapshot(2).clusters
    made = Snapshot(generation=1, clusters=clusters, routes=RouteTable(routes, **table), cors=cors)
    return Director(made, Fleet(), random.Random(1))


def route(name: str = "r", actions: Actions | None = None, **options: Any) -> Route:
    match = Matcher(**options.pop("match", {}))
    arms = () if "answer" in options else (Destination("c", actions=actions),)
    return Route(name=name, match=match, destinations=arms, actions=actions, **options)


def preflight(*headers: tuple[bytes, bytes]) -> LlmRequest:
    return request(method="OPTIONS", headers=headers)


def test_a_redirect_ends_the_exchange_without_an_endpoint() -> None:
    director_ = director(route(answer=Redirect(status=307, path="/new")))
    exchange = director_.begin(request(authority="h"), 0.0)
    effect = exchange.feed(START, 0.0)
    assert effect == Answer(307, (b"location: http://h/new",))
    assert (exchange.status, exchange.flag, exchange.state) == (307, "-", State.DONE)
    assert exchange.attempt == 0 and not director_.active


def test_a_fixed_answer_has_its_type_and_its_routes_headers() -> None:
    edits = Actions(response=(HeaderEdits(set=fields(x_a="%ROUTE_NAME%")),))
    answer = DirectResponse(status=418, body=b"teapot")
    told = director(route(actions=edits, answer=answer)).begin(request(), 0.0).feed(START, 0.0)
    assert told == Answer(418, (b"content-type: text/plain", b"x-a: r"), b"teapot")


def test_a_preflight_is_answered_by_the_route_that_its_request_would_take() -> None:
    director_ = director(
        route("other-path", Actions(cors=CORS), match={"path": StringMatch("exact", "/other")}),
        route("no-policy", match={"model": "m"}),
        route("chat", Actions(cors=CORS), match={"model": "n", "methods": ("POST",)}),
    )
    exchange = director_.begin(preflight(ORIGIN, ASKS), 0.0)
    assert exchange.feed(START, 0.0) == Answer(
        200,
        (
            b"access-control-allow-origin: https://a.test",
            b"access-control-allow-credentials: true",
            b"vary: origin",
            b"access-control-allow-methods: GET, POST",
            b"access-control-allow-headers: authorization",
            b"access-control-max-age: 600",
        ),
    )
    assert exchange.route is not None
    assert exchange.route.name == "chat"


@pytest.mark.parametrize(
    "headers",
    [
        (ORIGIN,),  # asks about nothing
        (ASKS,),
        ((b"origin", b"https://evil.test"), ASKS),
        (ORIGIN, (b"access-control-request-method", b"DELETE")),
    ],
)
def test_what_is_no_preflight_or_not_allowed_goes_its_way(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    only_posts = route("r", Actions(cors=CORS), match={"methods": ("POST",)})
    effect = director(only_posts).begin(preflight(*headers), 0.0).feed(START, 0.0)
    assert isinstance(effect, Reject)
    assert effect.error.status == 404


def test_an_error_may_be_read_by_the_page_that_asked() -> None:
    director_ = director(route("r", Actions(cors=CORS)))
    for host in director_.fleet.hosts:
        director_.fleet.set_admin(host, AdminState.DRAIN)
    effect = director_.begin(request(headers=(ORIGIN,)), 0.0).feed(START, 0.0)
    assert isinstance(effect, Reject)
    assert effect.error.status == 503
    assert b"access-control-allow-origin: https://a.test" in effect.error.headers


def test_the_policy_for_all_routes_holds_where_no_route_does() -> None:
    director_ = director(route(match={"model": "m"}), cors=CORS)
    refused = director_.begin(request(model="x", headers=(ORIGIN,)), 0.0).feed(START, 0.0)
    assert isinstance(refused, Reject)
    assert b"access-control-allow-origin: https://a.test" in refused.error.headers
    asked = director_.begin(preflight(ORIGIN, ASKS), 0.0).feed(START, 0.0)
    assert isinstance(asked, Answer)
    assert asked.status == 200


def test_only_allowed_origins_are_let_in() -> None:
    assert CORS.allows("https://x.b.test") and not CORS.allows("https://a.test.evil")
    assert Cors(origins=(StringMatch("exact", "*"),)).allows("https://any.test")
    assert not Cors(origins=()).allows("https://any.test")


def test_an_engines_own_permissions_are_replaced() -> None:
    lines = [b"Access-Control-Allow-Origin: *", b"x-a: 1"]
    actions = Actions(cors=CORS)
    kept = actions.response_lines(lines, FACTS)
    assert kept == [b"x-a: 1"]
    told = actions.response_lines(lines, Facts(request(headers=(ORIGIN,)), "r"))
    assert told[:2] == [b"x-a: 1", b"access-control-allow-origin: https://a.test"]
    assert Preflight(CORS).lines(request()) == []


# --- aliases ----------------------------------------------------------------------------------


def test_an_alias_is_routed_as_its_model_and_told_to_the_engine_so() -> None:
    director_ = director(
        route("llama", match={"model": "llama"}),
        route("renamed", Actions(model="other"), match={"model": "qwen"}),
        aliases={"gpt-4o": "llama", "gpt-3": "qwen"},
    )
    exchange = director_.begin(request(model="gpt-4o"), 0.0)
    assert isinstance(exchange.feed(START, 0.0), Connect)
    assert exchange.request.model == "llama" and exchange.request.alias == "gpt-4o"
    assert exchange.actions == Actions(model="llama")
    plain = director_.begin(request(model="llama"), 0.0)
    assert plain.actions is None and plain.request.alias is None
    # A route that renames the model has the last word.
    assert director_.begin(request(model="gpt-3"), 0.0).actions == Actions(model="other")
    table = director_.snapshot.routes
    assert table.models() == ("llama", "qwen", "gpt-4o", "gpt-3")
    assert table.knows("gpt-4o") and not table.knows("gpt-5")


def test_an_unknown_model_is_told_by_the_name_that_was_asked_for() -> None:
    director_ = director(route(match={"model": "llama"}), aliases={"gpt-4o": "gone"})
    effect = director_.begin(request(model="gpt-4o"), 0.0).feed(START, 0.0)
    assert isinstance(effect, Reject)
    assert "`gpt-4o`" in effect.error.message
    assert named(None, "m") == Actions(model="m")
