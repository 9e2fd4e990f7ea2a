"""What a decision of `predicted_ttft` costs: hashing the prompt, the pick, and its bookkeeping.

    python -m bench.decision

Microseconds of CPU of one request from its prompt's bytes to the end of its answer with the
engine's usage, in this process: conversations of growing prompts over caches that fill, with a
share of prompts that nobody has seen. Percentiles over single requests: p99 shows sweeps, too.
Memory is what tracemalloc counts: for each pair of checkpoint and endpoint, and for 64 endpoints
of 3.3 million tokens each that serve Mooncake's conversations. Ends with
1 if a target is missed. The times are of code as it is imported: ``make bench-routing`` has it
compiled.
"""

import gc
import random
import time
import tracemalloc
from bisect import bisect
from pathlib import Path
from statistics import quantiles

import router.sim
from bench.machine import described
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.forecast.forecast import Forecast
from router.core.host import HostState, Lease, Outcome
from router.core.memory import ClusterMemory
from router.core.model import Endpoint, EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK, DEPTHS, checkpoints
from router.core.prefix.mirror import CacheMirror
from router.core.shared_load import SoleWorker
from router.sim.trace import load

REQUESTS = 6000
CONVERSATIONS = 400
SIZES = (8, 64, 256)
PROMPTS = (1_000, 8_000, 32_000, 128_000)


def hosts(size: int) -> tuple[HostState, ...]:
    return tuple(
        HostState(
            Endpoint(
                id=EndpointId(f"c/10.0.0.{i}:8000"), cluster="c", host=f"10.0.0.{i}", port=8000
            ),
            i,
            SoleWorker(),
        )
        for i in range(size)
    )


def measure(size: int, tokens: int) -> list[float]:
    """Microseconds of each request; prompts of ``tokens`` on average."""
    rng = random.Random(1)
    memory = ClusterMemory.alone()
    balancer = PredictedTtft.Spec().build(rng, memory)
    forecast = memory.keep(Forecast)
    forecast.mirror.start_with(400_000 * 4 / BLOCK)
    fleet = hosts(size)
    texts = [
        rng.randbytes(8 * tokens) for _ in range(min(CONVERSATIONS, 20_000_000 // tokens // 8))
    ]
    system = rng.randbytes(2 * tokens)
    under_way: list[Lease] = []
    took: list[float] = []
    now = 0.0
    for _ in range(REQUESTS):
        now += 0.3 / size
        length = int(tokens * rng.uniform(1.0, 7.0) / 2)
        pieces = [system, texts[rng.randrange(len(texts))][:length]]
        if rng.random() < 0.3:
            pieces.append(rng.randbytes(length // 4))
        start = time.thread_time_ns()
        request = LlmRequest(
            id="",
            method="POST",
            path="/",
            stream=True,
            checkpoints=checkpoints(pieces, 0),
            prompt_bytes=sum(map(len, pieces)),
        )
        host, _ = balancer.pick(request, fleet, rng, (), now)
        lease = Lease(host, now, balancer.accounts.begin(request, host, now))
        under_way.append(lease)
        if len(under_way) > 8 * size:
            ended = under_way.pop(0)
            ended.first_byte(now, True)
            ended.release(Outcome.SUCCESS, now)
            ended.work.usage(tokens, tokens // 2)
        took.append((time.thread_time_ns() - start) / 1e3)
    return took[REQUESTS // 3 :]


def memory_per_entry() -> tuple[float, int]:
    """Bytes for each pair of checkpoint and endpoint, under a flood of prompts all different."""
    rng = random.Random(2)
    tracemalloc.start()
    mirror = CacheMirror()
    mirror.max_entries = 400_000
    pages = [mirror.open() for _ in range(8)]
    before = tracemalloc.get_traced_memory()[0]
    for number in range(40_000):
        found = tuple(rng.getrandbits(64) for _ in range(20))
        mirror.use(pages[number % 8], found, DEPTHS[19], 0, DEPTHS[19])
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / mirror.entries, mirror.entries


def memory_of_fleet() -> tuple[float, int]:
    """Bytes for 64 endpoints of 3.3 million tokens, and pairs, when three times that has come.

    Each gets ten minutes of Mooncake's conversations, again and again, each time of other users.
    """
    trace = load(Path(router.sim.__file__).parent / "data" / "mooncake_conversation.jsonl.gz")
    ratio = trace.block * 4 // BLOCK
    tracemalloc.start()
    mirror = CacheMirror()
    capacity = 3_300_000 * 4 / BLOCK
    mirror.start_with(capacity)
    for number in range(64):
        page, users = mirror.open(), 0
        while page.clock < 3 * capacity:
            users += 1
            for one in trace.requests:
                blocks = one.prompt * 4 / BLOCK
                # A checkpoint has the name of the trace's block that it is in.
                found = tuple(
                    hash((number, users, one.blocks[(depth - 1) // ratio], depth))
                    for depth in DEPTHS[: bisect(DEPTHS, min(blocks, len(one.blocks) * ratio))]
                )
                held = mirror.held(found, blocks, 0, 1 << page.index).get(page.index, 0.0)
                mirror.use(page, found, blocks, 0, max(0.0, blocks - held))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used, mirror.entries


def main() -> None:
    gc.collect()
    gc.freeze()
    print(described())
    print("us per request: hashing, pick, lease, first token, end, usage       p50      p99")
    found: dict[tuple[int, int], tuple[float, float]] = {}
    for size in SIZES:
        for tokens in PROMPTS:
            marks = quantiles(measure(size, tokens), n=100)
            found[size, tokens] = marks[49], marks[98]
            print(f"{size:4} endpoints, {tokens:7,} tokens {marks[49]:39.1f} {marks[98]:8.1f}")
    each, entries = memory_per_entry()
    fleet, pairs = memory_of_fleet()
    print(f"memory: a flood of unique prompts leaves {entries:,} pairs (cap 400,000);")
    print(f"        64 endpoints of 3.3M tokens have {pairs:,}")
    targets = (
        ("64 endpoints, 8k tokens: p50, us", 60.0, found[64, 8_000][0]),
        ("64 endpoints, 8k tokens: p99, us", 300.0, found[64, 8_000][1]),
        ("256 endpoints, 8k tokens: p50, us", 90.0, found[256, 8_000][0]),
        ("bytes for each pair of checkpoint and endpoint", 200.0, each),
        ("pairs under a flood, of 400,000 allowed", 400_000.0, float(entries)),
        ("64 endpoints of 3.3M tokens, MB", 100.0, fleet / 1e6),
    )
    print(f"\n{'target':48} {'at most':>9} {'measured':>9}")
    for goal, bound, value in targets:
        print(f"{goal:48} {bound:9,.0f} {value:9,.1f} {'' if value <= bound else 'missed'}")
    raise SystemExit(0 if all(value <= bound for _, bound, value in targets) else 1)


if __name__ == "__main__":
    main()
