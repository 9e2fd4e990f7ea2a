"""What one pick costs, with a prompt of 8k tokens and endpoints that know some of it.

    python -m bench.balancers

Microseconds of CPU, the median of 5,000 picks and the mean of the best of three runs, and of what
following an attempt from its sending to its end adds. A quarter of the prompt is common to all, and
half of the prompts were at an endpoint before; a third of the endpoints have requests in flight.
"""

import gc
import random
import time
from statistics import median

from router.core.balancers import REGISTRY
from router.core.balancers.base import Accounting, Balancer
from router.core.host import HostState, Lease, Outcome
from router.core.load import LoadReport
from router.core.memory import ClusterMemory
from router.core.model import Endpoint, EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK, checkpoints
from router.core.shared_load import SoleWorker

PICKS = 5000
PROMPT = 64 * BLOCK
SIZES = (8, 64)


def hosts(size: int) -> tuple[HostState, ...]:
    shared, rng = SoleWorker(), random.Random(2)
    found = []
    for slot in range(size):
        name = f"10.0.0.{slot}"
        endpoint = Endpoint(id=EndpointId(f"c/{name}:80"), cluster="c", host=name, port=80)
        host = HostState(endpoint, slot, shared)
        host.load = LoadReport(0.0, rng.randrange(40), rng.randrange(9), rng.random())
        host.in_flight = rng.choice((0, 0, 3))
        found.append(host)
    return tuple(found)


def requests(count: int) -> list[LlmRequest]:
    common = random.Random(0).randbytes(PROMPT // 4)
    found = []
    for number in range(count):
        own = random.Random(number).randbytes(PROMPT - len(common))
        found.append(
            LlmRequest(
                id=str(number),
                method="POST",
                path="/v1/chat/completions",
                checkpoints=checkpoints((common, own), 0),
                prompt_bytes=PROMPT,
                prefix_hash=random.Random(number).getrandbits(64),
            )
        )
    return found


def follow(balancer: Balancer, request: LlmRequest, host: HostState) -> None:
    work = balancer.accounts.begin(request, host, 0.0) if isinstance(balancer, Accounting) else None
    lease = Lease(host, 0.0, work)
    lease.first_byte(0.0, True)
    lease.release(Outcome.SUCCESS, 0.0)


def measure(balancer: Balancer, known: tuple[HostState, ...]) -> tuple[float, float, float]:
    """Median and mean of a pick, and the mean of following an attempt; us."""
    asked, rng = requests(1000), random.Random(3)
    for number, one in enumerate(asked[:500]):
        follow(balancer, one, known[number % len(known)])
    middle = mean = following = float("inf")
    clock = time.process_time_ns
    for _ in range(3):
        took = []
        start = clock()
        for number in range(PICKS):
            balancer.pick(asked[number % 1000], known, rng)
        mean = min(mean, (clock() - start) / PICKS / 1000)
        for number in range(PICKS):
            before = time.perf_counter_ns()
            balancer.pick(asked[number % 1000], known, rng)
            took.append(time.perf_counter_ns() - before)
        middle = min(middle, median(took) / 1000)
        start = clock()
        for number in range(PICKS):
            follow(balancer, asked[number % 1000], known[number % len(known)])
        following = min(following, (clock() - start) / PICKS / 1000)
    return middle, mean, following


def main() -> None:
    gc.freeze()
    gc.disable()
    print("us                 " + "".join(f"{f'{size} endpoints':>27}" for size in SIZES))
    print("balancer           " + "   median     mean   follow" * len(SIZES))
    for kind in REGISTRY:
        spec = kind.Spec()
        cells = ""
        for size in SIZES:
            balancer = spec.build(random.Random(1), ClusterMemory.alone(1 << 14))
            cells += "".join(f"{figure:9.1f}" for figure in measure(balancer, hosts(size)))
        print(f"{spec.__struct_config__.tag!s:19}{cells}")


if __name__ == "__main__":
    main()
