# ruff: noqa: E501
"""Explanations: true to what serving does, and dry."""

import copy
import os
import random
from typing import Any

import pytest

from router.config.build import build
from router.config.load import loads
from router.control.board import Board, create_file
from router.core.admission.token_bucket import Draw
from router.core.affinity import AffinityTable
from router.core.balancers import REGISTRY
from router.core.director import Director
from router.core.errors import RouterError
from router.core.events import START, Connect, Reject
from router.core.explain import Known, World, explain
from router.core.explanation import ClientSees, Description, Explanation, OwnAnswer
from router.core.fleet import Fleet
from router.core.load import LoadReport
from router.core.model import AdminState, LlmRequest
from router.core.snapshot import Snapshot
from router.proxy.describe import describe
from router.proxy.known_heads import parse_request
from router.proxy.paths import Body
from router.proxy.peek import peek
from router.proxy.respond import error_answer, error_body

CLUSTERS = """\
version: 1
clusters:
  - name: chat
    endpoints:
      - {{address: "10.0.0.1:8000", labels: {{version: v1}}}}
      - {{address: "10.0.0.2:8000", labels: {{version: v1}}, weight: 2}}
      - {{address: "10.0.0.3:8000", labels: {{version: v2}}}}
    balancer: {balancer}
    circuit_breaker: {breaker}
  - name: spare
    endpoints: ["10.0.0.9:8000"]
routes:
  - {{name: preview, match: {{model: a, headers: {{x-version: v2}}}}, to: {{cluster: chat, subset: {{version: v2}}}}}}
  - {{name: get, match: {{model: a, methods: GET, path: {{prefix: /x}}}}, to: spare}}
  - name: all
    match: {{model: a}}
    to: [{{cluster: chat, weight: 3}}, {{cluster: spare}}]
    {route}
  - {{name: last, match: {{model: b}}, to: spare}}
"""

IDS = ("chat/10.0.0.1:8000", "chat/10.0.0.2:8000", "chat/10.0.0.3:8000", "spare/10.0.0.9:8000")
SLOTS = {
    **{id_: n for n, id_ in enumerate(IDS)},
    "chat": 4,
    "spare": 5,
    "chat!pending": 6,
    "spare!pending": 7,
}

BALANCERS = [str(balancer.Spec.__struct_config__.tag) for balancer in REGISTRY]


def snapshot(
    balancer: str = "{type: round_robin}",
    breaker: str = "{}",
    route: str = "retry: {attempts: 2}",
) -> Snapshot:
    text = CLUSTERS.format(balancer=balancer, breaker=breaker, route=route)
    return build(loads(text, "w.yaml", {}), 1)


def request(limits_of: Snapshot, **fields: Any) -> LlmRequest:
    return describe(Description(**({"model": "a"} | fields)), limits_of)


def told(policy: Snapshot, world: World | None = None, seed: int = 1, **fields: Any) -> Explanation:
    return explain(policy, request(policy, **fields), random.Random(seed), world)


# --- what it says -----------------------------------------------------------------------------


def test_routes_before_the_match_say_what_failed() -> None:
    seen = told(snapshot())
    assert [(route.name, route.failed) for route in seen.routes] == [
        ("preview", ("header x-version: wants exact 'v2', has none",)),
        ("get", ("method: wants GET, has POST",)),
        ("all", ()),
    ]
    assert (seen.route, seen.not_looked_at) == ("all", 1)


def test_the_arm_that_was_drawn() -> None:
    policy = snapshot()
    drawn = {arm.cluster for s in range(30) for arm in told(policy, seed=s).arms if arm.drawn}
    assert drawn == {"chat", "spare"}
    seen = told(policy)
    assert [(arm.weight, arm.share) for arm in seen.arms] == [(3, 0.75), (1, 0.25)]
    assert sum(arm.drawn for arm in seen.arms) == 1


def chat_only(
    balancer: str = "{type: round_robin}", breaker: str = "{}", extra: str = ""
) -> Snapshot:
    text = CLUSTERS.format(balancer=balancer, breaker=breaker, route=extra)
    return build(
        loads(text.replace("[{cluster: chat, weight: 3}, {cluster: spare}]", "chat"), "w", {}), 1
    )


def test_what_removed_an_endpoint() -> None:
    world = World(
        known={
            IDS[0]: Known(healthy=False),
            IDS[1]: Known(admin=AdminState.MAINT),
            IDS[2]: Known(ejected=True),
        }
    )
    seen = told(chat_only(), world)
    assert [c.removed for c in seen.candidates] == [None, "maint", None]
    assert seen.panic, "of the ready ones none is healthy"
    world = World(known={IDS[0]: Known(admin=AdminState.DRAIN), IDS[1]: Known(healthy=False)})
    seen = told(chat_only(), world)
    assert [c.removed for c in seen.candidates] == ["drain", "unhealthy", None]
    assert {attempt.endpoint for attempt in seen.attempts} == {IDS[2]}
    seen = told(snapshot(), headers=(("x-version", "v2"),))
    assert [c.removed for c in seen.candidates] == ["not in the subset: lacks version=v2"] * 2 + [
        None
    ]


PLACED = """\
version: 1
clusters:
  - name: chat
    endpoints:
      - {address: "10.0.0.1:8000", locality: us/a}
      - {address: "10.0.0.2:8000", locality: us/a}
      - {address: "10.0.0.3:8000", locality: us/b}
      - {address: "10.0.0.4:8000", locality: us/b, priority: 1}
    localities: {weights: {us/a: 3, us/b: 1}}
    balancer: {type: KIND}
routes: [{name: all, to: chat}]
"""


@pytest.mark.parametrize("kind", BALANCERS)
def test_priorities_and_localities(kind: str) -> None:
    policy = build(loads(PLACED.replace("KIND", kind), "w", {}), 1)
    names = [f"chat/10.0.0.{n}:8000" for n in (1, 2, 3, 4)]
    seen = told(policy, model=None)
    assert [(level.priority, level.load) for level in seen.levels] == [(0, 100), (1, 0)]
    assert seen.levels[0].localities == {"us/a": 0.75, "us/b": 0.25}
    assert [c.removed for c in seen.candidates] == [None, None, None, "priority 1 has no load"]
    assert [(c.priority, c.locality) for c in seen.candidates][2:] == [(0, "us/b"), (1, "us/b")]
    assert ", priority 0, us/" in seen.attempts[0].reason
    world = World(known={names[0]: Known(healthy=False), names[1]: Known(healthy=False)})
    seen = told(policy, world, model=None)
    assert [level.load for level in seen.levels] == [46, 54]
    assert [level.panic for level in seen.levels] == [False, False]
    assert seen.levels[0].localities == {"us/b": 1.0}
    assert [c.removed for c in seen.candidates] == ["unhealthy", "unhealthy", None, None]
    world = World(known={names[2]: Known(pushed_until=9.0)}, now=5.0)
    assert told(policy, world, model=None).candidates[2].removed == "pushed back"


def test_load_and_its_age() -> None:
    report = LoadReport(at=7.0, running=3, waiting=1, kv_usage=0.5)
    world = World(
        now=10.0,
        known={IDS[0]: Known(load=report, load_fresh=True, weight=9)},
        in_flight={IDS[0]: 4, "chat": 4},
        slots=SLOTS,
    )
    seen = told(chat_only(), world)
    first = seen.candidates[0]
    assert first.load is not None
    assert (first.in_flight, first.weight, first.load.age, first.load.running) == (4, 9, 3.0, 3)
    assert seen.admission is not None
    assert seen.admission.queue.in_flight == 4


@pytest.mark.parametrize(
    ("places", "waiting", "verdict", "status"),
    [
        (0, 0, "admitted", None),
        (2, 0, "waits", None),
        (2, 3, "refused", 503),
        (4, 0, "refused", 503),
    ],
)
def test_admission(places: int, waiting: int, verdict: str, status: int | None) -> None:
    policy = chat_only(breaker="{max_connections: 2, max_pending: 3, max_requests: 4}")
    world = World(in_flight={"chat": places}, waiting={"chat": {0: waiting}}, slots=SLOTS)
    seen = told(policy, world)
    assert seen.admission is not None
    assert (seen.admission.verdict, seen.admission.queue.waiting) == (verdict, waiting)
    assert (seen.error.status if seen.error else None) == status
    assert bool(seen.attempts) is (status is None)


def test_limits_say_what_a_request_needs_and_what_other_routers_share_is_not_asked() -> None:
    limits = "limits: [{unit: tokens, rate: 1k/min}, {rate: 9/s, scope: global}, {rate: 1/s, per: tenant, enforce: false}]"
    text = CLUSTERS.format(balancer="{type: round_robin}", breaker="{}", route=limits)
    text = text.replace("[{cluster: chat, weight: 3}, {cluster: spare}]", "chat")
    redis = 'redis: {address: "127.0.0.1:1", on_failure: deny}'
    policy = build(loads(f"{text}\n{redis}\n", "w", {}), 1)
    asked = request(policy, model=None, body=b'{"model":"a","max_tokens":50,"messages":[]}')
    seen = explain(policy, asked, random.Random(1)).admission
    assert seen is not None
    assert seen.verdict == "admitted"
    tokens, everywhere, shadow = seen.limits
    assert (tokens.unit, tokens.needs, tokens.remaining) == ("tokens", 50 + 43 / 4, 1000)
    assert (everywhere.scope, everywhere.applies, everywhere.remaining) == ("global", True, None)
    assert (shadow.enforce, shadow.applies, shadow.needs) == (False, False, None)


def test_rate_limits_are_read_and_not_drawn_on() -> None:
    limit = "limits: [{max_tokens: 5, tokens_per_fill: 1, per: user}, {max_tokens: 9, tokens_per_fill: 1}]"
    policy = chat_only(extra=limit)
    asked: list[int] = []

    def level(key: int, spec: Any, now: float) -> float:
        asked.append(key)
        return 0.5

    seen = told(policy)
    assert seen.admission is not None
    assert [one.remaining for one in seen.admission.limits] == [None, 9.0], "no user, no bucket"
    seen = told(policy, World(level=level), user="u")
    assert seen.error is not None and seen.admission is not None
    assert (seen.error.status, seen.error.flag, seen.admission.verdict) == (429, "RL", "refused")
    assert [one.remaining for one in seen.admission.limits] == [0.5, 0.5]


def test_retries_go_elsewhere_until_the_policy_ends() -> None:
    seen = told(chat_only(extra="retry: {attempts: 2, on: [connect-failure], per_try_timeout: 7s}"))
    assert len({attempt.endpoint for attempt in seen.attempts}) == 3
    assert [a.first_byte_timeout for a in seen.attempts] == [7.0] * 3
    assert seen.exhausted is not None and seen.exhausted.error["code"] == "upstream_connect_failure"
    assert seen.retry is not None and seen.retry.assumed == "connect-failure"
    seen = told(chat_only(extra="retry: {attempts: 1, on: [429]}"))
    assert (len(seen.attempts), seen.exhausted) == (2, None)
    assert seen.retry is not None and seen.retry.assumed == "429"
    assert len(told(chat_only(extra="retry: off")).attempts) == 1


def test_a_body_too_large_to_keep_is_not_retried() -> None:
    body = b'{"model": "a", "prompt": "' + b"x" * (1 << 20) + b'"}'
    seen = told(chat_only(), model=None, body=body)
    assert len(seen.attempts) == 1
    assert seen.retry is not None and not seen.retry.replayable


def test_waits_are_told_by_their_bound_and_the_end_by_its_reason() -> None:
    retry = "retry: {attempts: 4, on: '5xx', back_off: {base_interval: 1s, max_interval: 3s}}"
    seen = told(chat_only(extra=retry), seed=3)
    assert [attempt.wait for attempt in seen.attempts] == [0, 0, 0, 3, 3]
    assert seen.retry is not None
    assert seen.retry.refused == "all 4 retries are used up"
    assert seen.retry.heeds == ("retry-after",)


def test_a_hedge_is_told_with_where_it_would_go_or_why_not() -> None:
    extra = "hedge: {after: 2s, quantile: 95%}"
    seen = told(chat_only(extra=extra))
    assert seen.hedge is not None
    assert (seen.hedge.after, seen.hedge.quantile, seen.hedge.refused) == (2, 0.95, None)
    assert seen.hedge.endpoint not in (None, seen.attempts[0].endpoint)
    body = b'{"model": "a", "prompt": "' + b"x" * (1 << 20) + b'"}'
    seen = told(chat_only(extra=extra), model=None, body=body)
    assert seen.hedge is not None and "buffer_body" in str(seen.hedge.refused)
    assert told(chat_only()).hedge is None


# --- it is what serving does ------------------------------------------------------------------


@pytest.mark.parametrize("kind", BALANCERS)
def test_the_pick_is_the_directors(kind: str) -> None:
    policy = snapshot(f"{{type: {kind}}}")
    for seed in range(20):
        asked = request(policy, prompt=f"question {seed}")
        director = Director(policy, Fleet(), random.Random(seed))
        effect = director.begin(asked, 0.0).feed(START, 0.0)
        assert isinstance(effect, Connect)
        seen = explain(policy, asked, random.Random(seed))
        assert seen.attempts[0].endpoint == effect.endpoint.id
        assert seen == explain(policy, asked, random.Random(seed)), "the same seed, the same answer"


@pytest.mark.parametrize("fields", [{"model": "unknown"}, {"model": None, "body": b'{"n": 1}'}])
def test_an_error_is_the_one_that_a_client_gets(fields: dict[str, Any]) -> None:
    policy = snapshot()
    asked = request(policy, **fields)
    effect = Director(policy, Fleet(), random.Random(1)).begin(asked, 0.0).feed(START, 0.0)
    assert isinstance(effect, Reject)
    seen = told(policy, **fields)
    assert seen.error == ClientSees.of(effect.error)
    assert seen.attempts == ()


def test_nothing_healthy_and_no_panic() -> None:
    world = World(known={id_: Known(admin=AdminState.DRAIN) for id_ in IDS})
    seen = told(snapshot(), world)
    assert seen.error is not None and seen.admission is not None
    assert (seen.error.status, seen.error.flag, seen.error.retry_after) == (503, "UH", 1)
    assert seen.admission.verdict == "admitted", "there was a place, but no endpoint"


def test_the_errors_form_is_the_answers() -> None:
    policy = snapshot()
    for fields in (
        {"path": "/v1/chat/completions", "method": "GET"},
        {"model": None, "body": b"[]"},
    ):
        with pytest.raises(RouterError) as caught:
            request(policy, **fields)
        seen, answer = ClientSees.of(caught.value), error_answer(caught.value, None, close=True)
        assert answer.startswith(b"HTTP/1.1 %d " % seen.status)
        assert (b"retry-after" in answer) is (seen.retry_after is not None)
        assert all(f'"{v}"'.encode() in error_body(caught.value) for v in seen.error.values() if v)


# --- it is dry --------------------------------------------------------------------------------


def test_conversations_are_read_and_not_moved() -> None:
    policy = chat_only("{type: prefix_hash}")
    table = AffinityTable.of_size(64)
    asked = request(policy, prompt="hello")
    assert asked.prefix_hash is not None
    table.put(asked.prefix_hash, SLOTS[IDS[2]])
    before = copy.copy(table._words)
    world = World(affinity=table, slots=SLOTS)
    seen = explain(policy, asked, random.Random(1), world)
    assert seen.attempts[0].endpoint == IDS[2]
    assert seen.attempts[0].reason == "prefix hit"
    assert seen.balancer is not None and seen.balancer.notes["remembered"] == IDS[2]
    assert len(seen.attempts) > 1, "the retries moved it, but only here"
    explain(policy, request(policy, prompt="a new one"), random.Random(1), world)
    assert table._words == before


def test_the_board_of_a_machine_is_not_touched() -> None:
    fd = create_file(16, 2, 64)
    board = Board(fd, 16, 2, 64)
    try:
        policy = chat_only(
            "{type: prefix_hash}", extra="limits: [{max_tokens: 5, tokens_per_fill: 1}]"
        )
        asked = request(policy, prompt="hello")
        [limit] = policy.routes.routes[2].limits
        key = limit.key(asked)
        assert key is not None and asked.prefix_hash is not None
        board.buckets().take([Draw(key, limit.bucket, 3.0)], 1.0)
        board.affinity().put(asked.prefix_hash, SLOTS[IDS[1]])
        board.cells[SLOTS[IDS[1]] * 2 + 1] = 4
        world = World(
            now=1.5,
            in_flight={key: board.total(slot) for key, slot in SLOTS.items()},
            slots=SLOTS,
            affinity=board.affinity(),
            level=board.buckets().level,
        )
        before = os.pread(fd, Board.size(16, 2, 64), 0)
        seen = explain(policy, asked, random.Random(1), world)
        assert os.pread(fd, Board.size(16, 2, 64), 0) == before
        assert seen.admission is not None
        assert seen.admission.limits[0].remaining == pytest.approx(2.5), "it was read"
        assert seen.candidates[1].in_flight == 4
        assert seen.attempts[0].reason == "moved, endpoint over bound"
    finally:
        os.close(fd)


SCORES = {
    "least_request": ("selection", "dynamic_weight"),
    "prefix_hash": ("remembered", "bound"),
    "round_robin": ("turn", "share"),
    "peak_ewma": ("selection", "cost"),
    "ring_hash": ("key", "order"),
    "maglev": ("entry", "entries"),
    "random": (None, None),
}


@pytest.mark.parametrize(("kind", "says"), SCORES.items())
def test_what_a_balancer_says(kind: str, says: tuple[str | None, str | None]) -> None:
    seen = told(chat_only(f"{{type: {kind}}}"), prompt="hello")
    note, column = says
    assert seen.balancer is not None and seen.balancer.type == kind
    assert note is None or note in seen.balancer.notes
    assert all((column in c.scores) is (column is not None) for c in seen.candidates)
    if column == "order":
        first = next(c.endpoint for c in seen.candidates if c.scores["order"] == 1)
        assert seen.attempts[0].endpoint == first


@pytest.mark.parametrize("kind", BALANCERS)
def test_scores_change_nothing(kind: str) -> None:
    """Asking a balancer that serves leaves its next picks as they would have been."""
    policy = snapshot(f"{{type: {kind}}}")
    asked = request(policy, prompt="hello")
    picks: list[list[str]] = []
    for ask in (False, True):
        director = Director(policy, Fleet(), random.Random(3))
        traffic, rng = director.traffic("chat"), random.Random(4)
        hosts = traffic.hosts.usable()
        picks.append([])
        for turn in range(12):
            if ask and hasattr(traffic.balancer, "explain"):
                traffic.balancer.explain(asked, hosts)
            picks[-1].append(traffic.balancer.pick(asked, hosts, rng, (), float(turn))[0].id)
    assert picks[0] == picks[1]


# --- what is read of a request ------------------------------------------------------------------


def test_words_and_bytes_are_read_by_the_proxy() -> None:
    policy = snapshot()
    body = b'{"model":"a","user":"u","messages":[{"role":"user","content":"hi"}]}'
    words = request(policy, user="u", prompt="hi")
    assert words.user == "u"
    assert words.prefix_hash == request(policy, model=None, body=body).prefix_hash
    head = parse_request(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n\r\n", 10)
    assert words.prefix_hash == peek([body], len(body), Body.JSON, head).prefix_hash
    long = request(policy, prompt="x" * 2000)
    assert len(long.checkpoints) == 3
    other = request(policy, prompt="x" * 900 + "y" * 1100)
    assert [one == two for one, two in zip(long.checkpoints, other.checkpoints, strict=True)] == [
        True,
        False,
        False,
    ]
    assert request(policy, path="/v1/completions?x=1", prompt="hi").path == "/v1/completions"
    with pytest.raises(OwnAnswer):
        request(policy, path="/v1/models", method="GET")
    with pytest.raises(RouterError, match="a body names its own model"):
        request(policy, model="a", body=body)
    with pytest.raises(RouterError, match="larger than max_body") as caught:
        request(policy, model=None, body=b" " * (policy.limits.max_body + 1))
    assert caught.value.status == 413
