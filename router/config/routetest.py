"""Route tests: what a policy does with a request, asked of the real director, with no I/O.

A file ``<name>.test.yaml`` beside ``<name>.yaml`` lists cases. Each case gets a fresh director
with its own seed, may take endpoints down or load them first, and sends its request one or
many times.
"""

import random
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import xxhash

from router.config import check
from router.config.build import build
from router.config.document import read
from router.config.findings import ConfigError, Problem, closest
from router.config.load import read_texts
from router.config.schema import Config
from router.config.section import Section, Text, doc
from router.config.units import Percent
from router.core.actions import UNCHANGED
from router.core.admission.estimates import Consumption
from router.core.admission.token_bucket import Bottomless, LocalBuckets
from router.core.affinity import AffinityTable
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Answer, Connect, Head, Reject
from router.core.exchange import Exchange
from router.core.fault_explained import after_delay
from router.core.fleet import Fleet
from router.core.host import HostState, Lease
from router.core.model import BYTES_PER_TOKEN, LlmRequest, Priority
from router.core.prefix.blocks import BLOCK, checkpoints, seed_of
from router.core.snapshot import Snapshot

SUFFIX = ".test.yaml"

PROMPT_BYTES = 4 * BLOCK
"""Of a prompt whose length the case does not give: enough to be told from another."""


class CaseRequest(Section, frozen=True, kw_only=True):
    """The request of a case."""

    method: Text = "POST"
    path: Text = "/v1/chat/completions"
    host: Annotated[str, doc("The Host header.")] = "localhost"
    headers: dict[Text, str] = msgspec.field(default_factory=dict)
    model: Text | None = None
    user: Annotated[Text | None, doc("The body's user field.")] = None
    session: Annotated[
        Text | None, doc("Stands for the prompt's beginning; without it each request has its own.")
    ] = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    prompt_tokens: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        doc("What its body would be estimated at; without it, a small one."),
    ] = None
    tenant: Text | None = None
    priority: Literal["low", "normal", "high"] = "normal"


class Sent(Section, frozen=True, kw_only=True):
    """What the engine gets; what is not given is not looked at."""

    model: Annotated[Text | None, doc("The body's model, other than the client's or not.")] = None
    path: Annotated[Text | None, doc("The path with its query.")] = None
    host: Annotated[Text | None, doc("The Host header.")] = None


class Expectation(Section, frozen=True, kw_only=True):
    """What must come of it; what is not given is not looked at."""

    route: Annotated[Text | None, doc("The route's name.")] = None
    cluster: Text | None = None
    subset: Annotated[dict[str, str] | None, doc("Exactly these labels.")] = None
    endpoint: Annotated[Text | None, doc("host:port, of every request of the case.")] = None
    same_endpoint: Annotated[bool, doc("Every request of the case goes to one endpoint.")] = False
    status: Annotated[
        Annotated[int, msgspec.Meta(ge=200, le=599)] | None,
        doc("The router answers so itself, without an engine."),
    ] = None
    location: Annotated[Text | None, doc("Where a redirect leads.")] = None
    waits: Annotated[bool, doc("Every request of the case has to wait for a place.")] = False
    sent: Sent = Sent()
    shares: Annotated[
        dict[Text, Percent],
        doc("Of the case's requests, by host:port, cluster name or endpoint's label=value."),
    ] = msgspec.field(default_factory=dict)
    tolerance: Annotated[Percent, doc("By how much a share may differ, in points.")] = Percent(3)
    limited: Annotated[
        Annotated[int, msgspec.Meta(ge=0)] | None,
        doc(
            "How many of the requests are refused by rate limits (429). Buckets are full at first, "
            "requests come a second apart and use what they were estimated at; without this field "
            "nobody is limited."
        ),
    ] = None


class Case(Section, frozen=True, kw_only=True):
    """One request and what is expected of it."""

    name: Text
    request: CaseRequest = CaseRequest()
    times: Annotated[int, doc("How often it is sent.", ge=1, le=100_000)] = 1
    seed: Annotated[int, doc("Of all chance in the case.")] = 1
    down: Annotated[tuple[Text, ...], doc("Unhealthy endpoints, host:port.", single=True)] = ()
    load: Annotated[
        dict[Text, Annotated[int, msgspec.Meta(ge=0, le=100_000)]],
        doc("Requests in flight before the case begins, by host:port."),
    ] = msgspec.field(default_factory=dict)
    waiting: Annotated[
        dict[Text, Annotated[int, msgspec.Meta(ge=0, le=100_000)]],
        doc(
            "Requests like the case's that came before, by tenant; for a load that makes them wait."
        ),
    ] = msgspec.field(default_factory=dict)
    expect: Expectation


class RouteTests(Section, frozen=True, kw_only=True):
    """The cases of one policy."""

    cases: Annotated[tuple[Case, ...], doc("At least one.", min_length=1)]


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """``failures`` is empty where the case passed; ``routes``: names of routes that were taken."""

    name: str
    failures: tuple[str, ...]
    routes: frozenset[str]


def load_tests(path: Path, config: Config) -> RouteTests:
    """Read the cases of a policy.

    Raises:
        ConfigError: for anything malformed, and for names that the policy does not have.
    """
    document = read(read_texts([path]), {})
    tests, problems = check.convert(document, RouteTests)
    if tests is not None:
        problems = _unknown_names(tests, config)
    if problems or tests is None:
        raise ConfigError(document.locate(problem) for problem in problems)
    return tests


def _unknown_names(tests: RouteTests, config: Config) -> list[Problem]:
    routes = {route.name for route in config.routes}
    clusters = {cluster.name for cluster in config.clusters}
    addresses = {str(e.address) for cluster in config.clusters for e in cluster.endpoints}
    found: list[Problem] = []
    for index, case in enumerate(tests.cases):
        expect = case.expect
        endpoints = [*case.down, *case.load, *([expect.endpoint] if expect.endpoint else [])]
        shares = [key for key in expect.shares if "=" not in key and key not in clusters]
        for kind, names, known in (
            ("route", [expect.route] if expect.route else [], routes),
            ("cluster", [expect.cluster] if expect.cluster else [], clusters),
            ("endpoint", [*endpoints, *shares], addresses),
        ):
            found += [
                Problem(
                    ("cases", index),
                    f"the policy has no {kind} {name!r}",
                    closest(name, sorted(known)),
                )
                for name in names
                if name not in known
            ]
        if expect.status is not None and (expect.endpoint or expect.shares):
            found.append(
                Problem(("cases", index), "a refused request goes to no endpoint: status alone")
            )
    return found


def run(tests: RouteTests, config: Config) -> list[CaseResult]:
    """Run every case; the policy must be one that builds."""
    snapshot = build(config, 1)
    return [_run_case(case, snapshot) for case in tests.cases]


class _Tally:
    """What became of a case's requests."""

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.clusters: Counter[str] = Counter()
        self.subsets: Counter[tuple[tuple[str, str], ...]] = Counter()
        self.endpoints: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.locations: Counter[str] = Counter()
        self.sent: dict[str, Counter[str]] = {name: Counter() for name in Sent.__struct_fields__}


def _run_case(case: Case, snapshot: Snapshot) -> CaseResult:
    fleet = Fleet(affinity=AffinityTable.of_size(1 << 12))
    # A case is drawn thousands of times: rate limits are rarely what it asks about.
    buckets = Bottomless() if case.expect.limited is None else LocalBuckets()
    director = Director(snapshot, fleet, random.Random(case.seed), buckets=buckets)
    director.limiter.dry = True
    director.limiter.meter = _AsEstimated(director)
    for address in case.down:
        for host in _at(fleet, address):
            fleet.set_health(host.id, False)
    for address, count in case.load.items():
        for host in _at(fleet, address):
            for _ in range(count):
                Lease(host, 0.0)
                director.places(host.endpoint.cluster).take()
    bytes_per_token = snapshot.estimates.bytes_per_token
    for tenant, count in case.waiting.items():
        for turn in range(count):
            before = _request(case.request, turn, bytes_per_token)
            before = before.but(tenant=tenant)
            director.begin(before, 0.0).feed(START, 0.0)
    tally = _Tally()
    for turn in range(case.times):
        _send(director, _request(case.request, turn, bytes_per_token), float(turn), tally)
    return CaseResult(
        name=case.name,
        failures=tuple(_failures(case, tally)),
        routes=frozenset(tally.routes),
    )


class _AsEstimated:
    """A meter by which every answer comes to what was expected of it."""

    def __init__(self, director: Director) -> None:
        self._director = director

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        request = self._director.active[serial].request
        prompt, output = self._director.limiter.estimator.expected(request)
        return Consumption(round(prompt), round(output))


def _at(fleet: Fleet, address: str) -> list[HostState]:
    return [host for host in fleet.hosts.values() if host.endpoint.address == address]


def _request(spec: CaseRequest, turn: int, bytes_per_token: float) -> LlmRequest:
    headers = [
        (n.lower().encode(), v.encode("latin-1", "replace")) for n, v in spec.headers.items()
    ]
    names, prompt_bytes = prompt_of(spec, turn, bytes_per_token)
    return LlmRequest(
        id=f"case-{turn}",
        method=spec.method,
        path=spec.path.partition("?")[0],
        headers=tuple(headers),
        authority=spec.host,
        model=spec.model,
        max_tokens=spec.max_tokens,
        user=spec.user,
        prefix_hash=xxhash.xxh3_64_intdigest(_session(spec, turn)),
        body_bytes=_body_bytes(spec, bytes_per_token),
        target=spec.path.encode("latin-1", "replace"),
        tenant=spec.tenant,
        priority=Priority[spec.priority.upper()],
        checkpoints=names,
        prompt_bytes=prompt_bytes,
    )


def _session(spec: CaseRequest, turn: int) -> bytes:
    return (spec.session if spec.session is not None else f"turn {turn}").encode()


def prompt_of(
    spec: CaseRequest, turn: int = 0, bytes_per_token: float = BYTES_PER_TOKEN
) -> tuple[tuple[int, ...], int]:
    """The checkpoints and the length of a prompt that is nothing but its session over and over."""
    size = _body_bytes(spec, bytes_per_token)
    if spec.prompt_tokens is None and size:
        size = PROMPT_BYTES
    text = _session(spec, turn) + b" "
    return checkpoints([(text * (size // len(text) + 1))[:size]], seed_of(spec.model)), size


def _body_bytes(spec: CaseRequest, bytes_per_token: float) -> int:
    if spec.prompt_tokens is not None:
        return int(spec.prompt_tokens * bytes_per_token)
    return 1 if spec.method == "POST" else 0


def _send(director: Director, request: LlmRequest, now: float, tally: _Tally) -> None:
    exchange = director.begin(request, now)
    if exchange.route is not None:
        tally.routes[exchange.route.name] += 1
    effect = after_delay(exchange, exchange.feed(START, now), now)
    if exchange.traffic is not None:  # of its fallback, if it took one
        tally.clusters[exchange.traffic.cluster.name] += 1
        tally.subsets[exchange.traffic.subset] += 1
    if isinstance(effect, Reject):
        tally.statuses[effect.error.status] += 1
        return
    if isinstance(effect, Answer):
        tally.statuses[effect.status] += 1
        for line in effect.lines:
            if line.startswith(b"location: "):
                tally.locations[line[10:].decode("latin-1")] += 1
        return
    if not isinstance(effect, Connect):  # waits for a place, which the case's load has taken
        tally.statuses[0] += 1
        return
    tally.endpoints[effect.endpoint.address] += 1
    for name, value in effect.endpoint.labels.items():
        tally.labels[f"{name}={value}"] += 1
    for name, value in _sent(exchange).items():
        tally.sent[name][value] += 1
    for event in (CONNECTED, Head(200), COMPLETE):
        exchange.feed(event, now)


def _sent(exchange: Exchange) -> dict[str, str]:
    actions, request = exchange.actions or UNCHANGED, exchange.request
    target = request.target if actions.path is None else actions.path.target(request.target)
    return {
        "model": actions.model or request.model or "none",
        "path": target.decode("latin-1"),
        "host": actions.host or request.authority,
    }


def _failures(case: Case, tally: _Tally) -> list[str]:
    expect, times = case.expect, case.times
    subset = None if expect.subset is None else tuple(sorted(expect.subset.items()))
    rows: list[tuple[str, object, Counter[Any]]] = [
        ("route", expect.route, tally.routes),
        ("cluster", expect.cluster, tally.clusters),
        ("subset", subset, tally.subsets),
        ("endpoint", expect.endpoint, tally.endpoints),
        ("location", expect.location, tally.locations),
        *((f"sent {name}", getattr(expect.sent, name), n) for name, n in tally.sent.items()),
        ("status", 0 if expect.waits else expect.status, tally.statuses),
    ]
    failures = _limited(case, tally)
    for what, wanted, counts in rows:
        if wanted is not None and counts[wanted] != times:
            got = ", ".join(f"{_show(key)} x{count}" for key, count in counts.most_common(4))
            failures.append(f"{what}: expected {_show(wanted)}, got {got or 'none'}")
    if expect.status is None and not expect.waits and tally.statuses:
        statuses = ", ".join(
            f"{status or 'queued'} x{count}" for status, count in tally.statuses.items()
        )
        failures.append(f"not sent to an endpoint: {statuses}")
    if expect.same_endpoint and len(tally.endpoints) != 1:
        failures.append(f"same_endpoint: {len(tally.endpoints)} endpoints were used")
    seen = tally.endpoints + tally.clusters + tally.labels
    for key, share in expect.shares.items():
        part = 100 * seen[key] / times
        if abs(part - share) > expect.tolerance:
            failures.append(f"share of {key}: expected {share}, got {part:.1f}%")
    return failures


def _limited(case: Case, tally: _Tally) -> list[str]:
    """What is wrong with the number of 429s; those that are asked about are nothing else's."""
    expected = case.expect.limited
    got = 0 if expected is None else tally.statuses.pop(429, 0)
    if expected is None or got == expected:
        return []
    return [f"limited: expected {expected} of {case.times}, got {got}"]


def _show(value: object) -> str:
    if value == 0:
        return "queued"
    if isinstance(value, tuple):
        return "{" + ", ".join(f"{name}: {text}" for name, text in value) + "}"
    return str(value)
