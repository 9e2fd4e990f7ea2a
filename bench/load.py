"""Load for the benchmarks: raw HTTP/1.1 clients against one or several targets at the same time.

Three workloads, each against every target at once and equally, so that noise on the machine hits
all alike:

    requests  small answers, open loop at --rate per second (or closed loop with rate 0)
    streams   --concurrency paced SSE streams at a time, one after the other on each connection
    stalled   --concurrency big streams whose client never reads

Every answer is checked: status, order of tokens (the emulator counts), usage, [DONE].  Work done
during --warmup is not counted.  Standard output is JSON lines: {"event": "start"} when counting
begins and {"event": "stop", "targets": {...}} when it ends, so that whoever measures CPU can
sample at the same two moments.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import re
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvloop

TICK = 0.005
REOPEN_AFTER = 0.05
CONTENT = re.compile(rb'"content":" (\d{3})')


@dataclass
class Stats:
    """What one target did while counting; times in seconds."""

    requests: int = 0
    chunks: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def report(self, seconds: float) -> dict[str, Any]:
        """Rates and percentiles (milliseconds)."""
        out: dict[str, Any] = {
            "requests": self.requests,
            "chunks": self.chunks,
            "requests_per_s": round(self.requests / seconds, 1),
            "chunks_per_s": round(self.chunks / seconds, 1),
            "errors": dict(self.errors),
        }
        for name in ("latency", "ttft", "gaps"):
            values = sorted(getattr(self, name))
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
                if values:
                    index = min(len(values) - 1, int(share * len(values)))
                    out[f"{name}_{label}_ms"] = round(values[index] * 1e3, 3)
        return out


class Target:
    """Where to send, what has come back, and which connections are free."""

    def __init__(self, name: str, address: str, options: argparse.Namespace) -> None:
        self.name = name
        host, _, port = address.rpartition(":")
        self.host, self.port = host, int(port)
        self.options = options
        self.stats = Stats()
        self.idle: deque[Client] = deque()
        self.opened = 0
        self.issued = 0
        self.tasks: set[asyncio.Task[None]] = set()
        # The loop holds no reference to a connection that is neither read nor written.
        self.clients: set[Client] = set()
        self.request = _request_bytes(address, options)

    async def open(self) -> Client:
        """One more connection."""
        self.opened += 1
        loop = asyncio.get_running_loop()
        kind = CLIENTS[self.options.workload]
        _, client = await loop.create_connection(lambda: kind(self), self.host, self.port)
        return client

    async def reopen(self) -> None:
        """Replace a lost connection, not too eagerly."""
        await asyncio.sleep(REOPEN_AFTER)
        try:
            (await self.open()).send()
        except OSError as error:
            self.failed(f"connect: {type(error).__name__}")

    def failed(self, reason: str) -> None:
        """Count an error; the connection is replaced."""
        self.stats.errors[reason] += 1


def _request_bytes(address: str, options: argparse.Namespace) -> bytes:
    document = {
        "model": options.model,
        "messages": [{"role": "user", "content": "x" * max(1, options.body - 150)}],
        "max_tokens": options.tokens,
        "stream": options.workload != "requests",
    }
    if document["stream"]:
        document["stream_options"] = {"include_usage": True}
    body = json.dumps(document).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (address.encode(), len(body), body)
    )


class Client(asyncio.Protocol):
    """A connection that has at most one request under way."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.transport: asyncio.Transport
        self.busy = False
        self.closed = False
        self.sent_at = 0.0
        self.body = b""
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.target.clients.add(self)

    def send(self) -> None:
        """Start the next request."""
        self.busy = True
        self.body = b""
        self.sent_at = time.monotonic()
        self.transport.write(self.target.request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.target.failed(f"parse: {error}")
            self.transport.abort()

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.busy = False
        self.done(self.parser.get_status_code())

    def done(self, status: int) -> None:
        """The answer is complete."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.target.clients.discard(self)
        if self.busy:
            self.target.failed(f"cut: {type(exc).__name__ if exc else 'closed'}")
        if not (self.target.options.workload == "requests" and self.target.options.rate):
            task = asyncio.get_running_loop().create_task(self.target.reopen())
            self.target.tasks.add(task)
            task.add_done_callback(self.target.tasks.discard)


class RequestClient(Client):
    """Small whole answers."""

    def done(self, status: int) -> None:
        stats = self.target.stats
        wanted = b'"completion_tokens":%d' % self.target.options.tokens
        if status != 200:
            self.target.failed(f"status {status}")
        elif wanted not in self.body:
            self.target.failed("wrong usage")
        else:
            stats.requests += 1
            stats.latency.append(time.monotonic() - self.sent_at)
        if self.target.options.rate:
            self.target.idle.append(self)
        else:
            self.send()


class StreamClient(Client):
    """A stream, token by token, then the next one."""

    def send(self) -> None:
        super().send()
        self.expected = 0
        self.last = 0.0
        self.usage = self.ended = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece
        *events, self.body = self.body.split(b"\n\n")
        now = time.monotonic()
        stats = self.target.stats
        for event in events:
            found = CONTENT.search(event)
            if found:
                if int(found[1]) != self.expected % 1000:
                    self.target.failed("token out of order")
                self.expected += 1
                stats.chunks += 1
                if self.expected == 1:
                    stats.ttft.append(now - self.sent_at)
                else:
                    stats.gaps.append(now - self.last)
                self.last = now
            elif b'"usage":{' in event:
                wanted = b'"completion_tokens":%d' % self.target.options.tokens
                self.usage = wanted in event
            elif event == b"data: [DONE]":
                self.ended = True

    def done(self, status: int) -> None:
        complete = self.expected == self.target.options.tokens and self.usage and self.ended
        if status == 200 and complete:
            self.target.stats.requests += 1
        else:
            self.target.failed(f"status {status}" if status != 200 else "incomplete stream")
        self.send()


class StalledClient(Client):
    """Asks for a stream and then does not read."""

    def send(self) -> None:
        super().send()
        self.transport.pause_reading()


CLIENTS: dict[str, type[Client]] = {
    "requests": RequestClient,
    "streams": StreamClient,
    "stalled": StalledClient,
}


async def run(options: argparse.Namespace) -> None:
    """Warm up, count, report."""
    loop = asyncio.get_running_loop()
    named = [text.partition("=") for text in options.target]
    targets = [Target(name, address, options) for name, _, address in named]
    for target in targets:
        for _ in range(options.concurrency):
            client = await target.open()
            if options.workload == "requests" and options.rate:
                target.idle.append(client)
            else:
                client.send()
    gc.freeze()
    gc.disable()
    began = loop.time()
    counting_from = began + options.warmup
    ends = counting_from + options.seconds
    counting = False
    while (now := loop.time()) < ends:
        if not counting and now >= counting_from:
            counting = True
            counted_from = now
            for target in targets:
                # Errors count from the first moment: one during warm-up is no better.
                target.stats = Stats(errors=target.stats.errors)
            print(json.dumps({"event": "start"}), flush=True)
        if options.workload == "requests" and options.rate:
            # Who is sent to first has its first request alone and cold, the last all of its
            # requests at once, and each finds what its neighbour left of the caches.
            for target in random.sample(targets, len(targets)):
                await _issue(target, int((now - began) * options.rate))
        await asyncio.sleep(TICK)
    seconds = loop.time() - counted_from
    report = {t.name: t.stats.report(seconds) for t in targets}
    print(json.dumps({"event": "stop", "seconds": seconds, "targets": report}), flush=True)


async def _issue(target: Target, due: int) -> None:
    while target.issued < due:
        while target.idle and target.idle[0].closed:
            target.idle.popleft()
            target.opened -= 1
        if target.idle:
            client = target.idle.popleft()
        elif target.opened < 4 * target.options.concurrency:
            try:
                client = await target.open()
            except OSError as error:
                target.opened -= 1
                target.failed(f"connect: {type(error).__name__}")
                target.issued = due
                return
        else:
            return
        target.issued += 1
        client.send()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target", action="append", required=True, help="name=host:port")
    parser.add_argument("--workload", choices=["requests", "streams", "stalled"], required=True)
    parser.add_argument(
        "--rate", type=float, default=0, help="requests/s per target; 0: closed loop"
    )
    parser.add_argument("--concurrency", type=int, default=16, help="connections per target")
    parser.add_argument("--tokens", type=int, default=8, help="max_tokens")
    parser.add_argument("--body", type=int, default=500, help="bytes of a request body, about")
    parser.add_argument("--model", default="emulated")
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args(sys.argv[1:])
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
