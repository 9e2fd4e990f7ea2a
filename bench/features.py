"""What each feature of the router adds to the policy of one request, and all of them together.

    python -m bench.features

Microseconds of CPU per exchange from begin to its end (pick, connect, head, first byte, complete),
in this process, best of five runs of 10,000. Each row adds one feature to the rows above it, in a
configuration as an operator writes it; buckets and counts are the ones that workers share. The
session's cookie names no endpoint of today: the dearest case.
"""

import gc
import itertools
import random
import time
from collections.abc import Sequence

from bench.machine import described
from router.config.build import build
from router.config.load import loads
from router.control.board import Board, WorkerColumn, create_file
from router.core.director import Director
from router.core.events import COMPLETE, CONNECTED, START, Connect, Head
from router.core.fleet import Fleet
from router.core.model import LlmRequest, Priority

EXCHANGES = 10_000
ENDPOINTS = 16
TICK = 25
"""Exchanges between two looks at what is done now and then: 25 ms at 1,000 a second."""

FEATURES: tuple[tuple[str, dict[str, str]], ...] = (
    ("predicted_ttft, outlier detection", {}),
    ("20 routes by header, then model", {"routes": "many"}),
    ("weighted subsets, by conversation", {"to": "split"}),
    ("priorities and localities", {"places": "on"}),
    ("session cookie", {"session": "session: {type: cookie, name: chat, ttl: 1h}"}),
    ("retries with back-off, hedging", {"retry": "on"}),
    ("header edits, rewritten model", {"edits": "on"}),
    ("fair queue, breakers per endpoint", {"queue": "on"}),
    ("request limit of the route", {"requests": "on"}),
    ("token limit of the tenant", {"tokens": "on"}),
)


def configuration(on: dict[str, str]) -> str:
    """The YAML with these features switched on."""
    endpoints = []
    for number in range(ENDPOINTS):
        place = f", priority: {number % 2}, locality: {{region: r, zone: z{number % 3}}}"
        labels = f"labels: {{version: v{number // 2 % 2}}}"
        address = f"address: 10.0.0.{number + 1}:8000"
        endpoints.append(f"      - {{{address}, {labels}{place if 'places' in on else ''}}}")
    arms = "chat"
    if "to" in on:
        v1, v2 = (f"{{cluster: chat, subset: {{version: {v}}}, weight: " for v in ("v0", "v1"))
        arms = f"[{v1}90}}, {v2}10}}]"
    lines = ["version: 1"]
    if "tokens" in on:
        key = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        limits = "{requests: 100M/min, tokens: 1000M/min}"
        lines.append(f"tenants: [{{name: acme, keys: {{sha256: {key}}}, limits: {limits}}}]")
    lines += ["clusters:", "  - name: chat", "    endpoints:", *endpoints]
    if "session" in on:
        lines.append(f"    {on['session']}")
    if "queue" in on:
        lines.append("    circuit_breaker: {per_endpoint: {max_connections: 500}}")
        lines.append("    queue: {fair_by: [tenant, address]}")
    lines.append("routes:")
    many = range(20) if "routes" in on else ()
    for number in many:
        match = f"{{model: m, headers: {{x-tier: t{number}}}}}"
        lines.append(f"  - {{name: tier-{number}, match: {match}, to: chat}}")
    lines += ["  - name: main", f"    to: {arms}"]
    if "retry" in on:
        lines.append("    retry: {attempts: 2, on: [5xx, reset, connect-failure]}")
        lines.append("    hedge: {after: 2s}")
    if "edits" in on:
        lines.append("    headers: {request: {set: {x-team: research}}}")
        lines.append("    rewrite: {model: m-2026}")
    if "requests" in on:
        lines.append("    limits: [{max_tokens: 1000000, tokens_per_fill: 1000000}]")
    return "\n".join(lines) + "\n"


def director(on: dict[str, str]) -> Director:
    """A worker's, with a board such as workers share."""
    snapshot = build(loads(configuration(on), "bench"), 1)
    board = Board(create_file(64, 2, 1 << 12), 64, 2, 1 << 12)
    fleet = Fleet(WorkerColumn(board, 0), board.affinity(), board.failure_words)
    return Director(snapshot, fleet, random.Random(1), buckets=board.buckets())


def requests(count: int) -> Sequence[LlmRequest]:
    headers = tuple((f"x-header-{i}".encode(), b"value") for i in range(10))
    return [
        LlmRequest(
            id=str(key),
            method="POST",
            path="/v1/chat/completions",
            target=b"/v1/chat/completions",
            headers=(*headers, (b"cookie", b"chat=abc")),
            client="10.1.0.1",
            model="m",
            stream=True,
            max_tokens=100,
            body_bytes=4000,
            prefix_hash=random.Random(key).getrandbits(64),
            tenant="acme",
            priority=Priority.NORMAL,
        )
        for key in range(count)
    ]


def measure(subject: Director, batch: Sequence[LlmRequest]) -> float:
    """Microseconds of CPU per exchange."""
    best, clock = float("inf"), 0.0
    # Names of this module are looked up each time, which is no work of the policy's.
    begin, started, connected, head, complete = subject.begin, START, CONNECTED, Head(200), COMPLETE
    rounds, flush = range(EXCHANGES // TICK), subject.limiter.flush
    for _ in range(5):
        start, requests = time.process_time(), itertools.cycle(batch)
        for _ in rounds:
            for request in itertools.islice(requests, TICK):
                clock += 0.001
                exchange = begin(request, clock)
                effect = exchange.feed(started, clock)
                exchange.feed(connected, clock)
                exchange.feed(head, clock)
                exchange.first_byte(clock)
                exchange.feed(complete, clock)
            assert type(effect) is Connect, effect
            flush(clock)
        best = min(best, (time.process_time() - start) / EXCHANGES * 1e6)
    return best


def main() -> None:
    gc.freeze()
    gc.disable()
    batch, on, before = requests(500), {}, 0.0
    print(described())
    print(f"{'each on top of those above':36} {'us':>6} {'added':>6}")
    for name, change in FEATURES:
        on |= change
        cost = measure(director(on), batch)
        print(f"{name:36} {cost:6.1f} {cost - before:6.1f}")
        before = cost


if __name__ == "__main__":
    main()
