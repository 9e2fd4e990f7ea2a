"""Small worlds: a few replicas, traffic drawn from a seed."""

import random
from typing import Any

from router.core.balancers.round_robin import RoundRobin
from router.sim.outcome import Outcome
from router.sim.profile import HBM, OFF, PICOSECONDS
from router.sim.scenario import Policy, Scenario
from router.sim.workload import Arrival
from router.sim.world import World

ROUND_ROBIN = Policy("round_robin", RoundRobin.Spec())
ORACLE = Policy("oracle", None)


def traffic(requests: int, rate: float, seed: int = 1, sessions: int = 20) -> list[Arrival]:
    """Turns of conversations, each longer than the one before, behind one system prompt."""
    rng = random.Random(seed)
    turns = dict.fromkeys(range(sessions), 1)
    found, at = [], 0.0
    for key in range(1, requests + 1):
        at += rng.expovariate(rate)
        session = rng.randrange(sessions)
        turns[session] += rng.randrange(1, 6)
        blocks = (0, *(100 * (session + 1) + index for index in range(turns[session])))
        found.append(
            Arrival(
                key,
                round(at * PICOSECONDS),
                len(blocks) * 512 + rng.randrange(512),
                rng.randrange(1, 400),
                blocks,
                session,
            )
        )
    return found


def scenario(**fields: Any) -> Scenario:
    usual: dict[str, Any] = {
        "policy": ROUND_ROBIN,
        "replicas": (OFF.scaled(1, 0.1),) * 3,
        "block": 512,
        "seed": 1,
    }
    return Scenario(**(usual | fields))


def run(arrivals: list[Arrival], **fields: Any) -> list[Outcome]:
    return World(scenario(**fields), arrivals).run()


__all__ = ["HBM", "OFF", "ORACLE", "ROUND_ROBIN", "run", "scenario", "traffic"]
