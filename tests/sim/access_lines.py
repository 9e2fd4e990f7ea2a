"""Access logs of simulated runs, written by the router's own code."""

import random
from pathlib import Path
from typing import Any

from router.core.prefix.blocks import DEPTHS
from router.sim.outcome import End
from router.sim.profile import PICOSECONDS
from router.sim.router import Flight
from router.sim.scenario import Policy
from router.sim.trace import Row, Trace, assemble
from router.sim.workload import arrivals
from router.sim.world import World
from router.telemetry.accesslog import AccessRing, json_line, readable
from router.telemetry.prompt_names import salted
from router.telemetry.record import ExchangeRecord
from tests.sim.worlds import ROUND_ROBIN, scenario

BEGAN = 1_780_000_000.25
"""Unix seconds of the first request."""

SECRET = b"a secret of the deployment"


def trace(requests: int = 300, rate: float = 10.0, seed: int = 1) -> Trace:
    """Conversations whose turns end where a checkpoint is, so that a log tells all of them."""
    rng = random.Random(seed)
    turns: dict[int, int] = {}
    rows, at = [], 0
    for _ in range(requests):
        session = rng.randrange(requests // 8 + 1)
        turn = turns[session] = turns.get(session, 2) + rng.randrange(1, 4)
        depth = DEPTHS[min(turn, 30)]
        own = range(1000 * session + 1000, 1000 * session + 1000 + depth - 3)
        rows.append(
            Row(at, 128 * depth, rng.randrange(1, 200), (0, 1, 2, *own), session, True, "llama")
        )
        at += 1 + round(1000 * rng.expovariate(rate))
    return assemble("made", 128, rows)


class LoggedWorld(World):
    """Keeps a record of each exchange that is over."""

    records: list[ExchangeRecord]

    def ended(self, flight: Flight, end: End) -> None:
        super().ended(flight, end)
        arrival, exchange, job = flight.arrival, flight.exchange, flight.job
        told = end is End.DONE and job is not None
        at = arrival.at
        ttft = (flight.first - at) / PICOSECONDS if flight.first >= 0 else None
        duration = (self.now - at) / PICOSECONDS
        self.records.append(
            ExchangeRecord(
                request_id=exchange.request.id,
                method="POST",
                path=exchange.request.path,
                client="10.0.0.7",
                route="all",
                cluster="engines",
                endpoint=exchange.tried[-1] if exchange.tried else "-",
                model=arrival.model or "-",
                stream=exchange.request.stream,
                status=exchange.status,
                flag=exchange.flag,
                reason=exchange.reason,
                attempts=exchange.attempt,
                started_at=BEGAN + at / PICOSECONDS,
                duration=duration,
                queued=exchange.queued_for,
                first_byte=ttft,
                ttft=ttft if exchange.request.stream or ttft is None else duration,
                bytes_in=exchange.request.body_bytes,
                bytes_out=100,
                chunks=1,
                prompt_tokens=arrival.prompt if told else None,
                completion_tokens=arrival.answer if told else None,
                cached_tokens=job.cached if told and job is not None else None,
                tenant=arrival.tenant,
                prompt_bytes=exchange.request.prompt_bytes,
                prefix=exchange.request.checkpoints,
            )
        )


def lines(recorded: Trace, policy: Policy = ROUND_ROBIN, **fields: Any) -> list[bytes]:
    """What a router would have logged of this traffic, in the order in which requests ended."""
    asked = arrivals(
        recorded, rate=recorded.rate, duration=recorded.span, seed=1, smooth=False, turned=False
    )
    world = LoggedWorld(scenario(policy=policy, block=recorded.block, **fields), asked)
    world.records = []
    world.run()
    ring = AccessRing(1 << 30)
    for record in world.records:
        ring.append(record)
    return readable(ring.take(), salted(json_line, SECRET)).splitlines(keepends=True)


def write(path: Path, written: list[bytes]) -> Path:
    path.write_bytes(b"".join(written))
    return path
