"""What balancers are worth over real sockets: eight emulated engines, recorded conversations.

    python -m bench.replicas --trace FILE

Each policy in turn gets engines with empty caches, a router of one worker, and the same requests
as streams from one client: a trace's prompts as text made of its block ids, so that equal ids are
equal bytes. The first 40 % of a run fill caches. Engine time and arrivals run ``--speed`` times as
fast; figures are in engine time. Hit rates are the engines' own counters'. Runs at a load average
above the number of cores mean little: the client measures itself then.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import aiohttp
import click

from router.sim.profile import PICOSECONDS
from router.sim.trace import load
from router.sim.workload import Arrival, arrivals

RESULTS = Path(__file__).parent / "results"
SHIPPED = Path(__file__).parent.parent / "router/sim/data"
BLOCK = 512
"""Tokens of a trace's block; four bytes each, as the emulator counts."""
WARM_UP = 0.4
MODEL = "emulated"

POLICIES: dict[str, dict[str, Any]] = {
    "round_robin": {"type": "round_robin"},
    "least_request": {"type": "least_request", "selection": "full_scan"},
    "prefix_hash": {"type": "prefix_hash", "key": "user"},
    "cache_aware": {"type": "cache_aware"},
    "predicted_ttft": {"type": "predicted_ttft"},
}


def text(arrival: Arrival) -> str:
    pieces = []
    for id_ in arrival.blocks:
        digest = hashlib.blake2b(str(id_).encode()).hexdigest()
        pieces.append(digest * (4 * BLOCK // len(digest)))
    whole = "".join(pieces)
    return (whole + "." * (4 * arrival.prompt))[: 4 * arrival.prompt]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def configuration(policy: dict[str, Any], api: int, admin: int, engines: list[int]) -> str:
    endpoints = [f"127.0.0.1:{port}" for port in engines]
    return json.dumps(
        {
            "version": 1,
            "workers": 1,
            "listeners": [{"name": "api", "address": f"127.0.0.1:{api}"}],
            "admin": {"address": f"127.0.0.1:{admin}"},
            "access_log": {"path": "off"},
            "clusters": [{"name": "c", "endpoints": endpoints, "balancer": policy}],
            "routes": [
                {"name": "all", "match": {}, "to": "c", "timeouts": {"first_byte": "10m"}},
            ],
        }
    )


@contextlib.asynccontextmanager
async def running(
    policy: dict[str, Any], engines: Sequence[tuple[str, ...]]
) -> AsyncIterator[tuple[int, int, list[int]]]:
    """The router's port, its admin port and the engines'.

    Args:
        engines: a command for each, to which its port is added.
    """
    *ports, api, admin = free_ports(len(engines) + 2)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(configuration(policy, api, admin, ports))
        file.flush()
        commands = [
            (*command, "--port", str(port)) for command, port in zip(engines, ports, strict=True)
        ]
        commands.append(("router.cli.main", "serve", "-c", file.name))
        children = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *command),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for command in commands
        ]
        try:
            await answering([*ports, api])
            yield api, admin, ports
        finally:
            for child in children:
                child.send_signal(signal.SIGTERM)
            await asyncio.gather(*(child.wait() for child in children))


async def answering(ports: list[int], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    async with aiohttp.ClientSession() as session:
        for port in ports:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                        if answer.status == 200:
                            break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"nobody answers on port {port}")
                await asyncio.sleep(0.1)


async def ask(session: aiohttp.ClientSession, port: int, arrival: Arrival) -> float | None:
    """Seconds to the first token; None where there was no whole answer."""
    body = {
        "model": MODEL,
        "user": str(arrival.conversation),
        "max_tokens": arrival.answer,
        "stream": True,
        "stream_options": {"include_usage": True},
        "prompt": text(arrival),
    }
    began, first, last = time.perf_counter(), 0.0, b""
    try:
        async with session.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
            async for piece in answer.content.iter_any():
                first = first or time.perf_counter()
                last = (last + piece)[-64:]
            whole = answer.status == 200 and b"[DONE]" in last
    except (aiohttp.ClientError, OSError):
        return None
    return first - began if whole else None


async def cached(session: aiohttp.ClientSession, engines: list[int]) -> tuple[float, float]:
    """Tokens that the engines found in their caches, and looked for."""
    totals = {"vllm:prefix_cache_hits_total": 0.0, "vllm:prefix_cache_queries_total": 0.0}
    for port in engines:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                name = line.partition("{")[0]
                if name in totals:
                    totals[name] += float(line.rsplit(" ", 1)[1])
    hits, queries = totals.values()
    return hits, queries


async def replay(
    policy: dict[str, Any], found: list[Arrival], replicas: int, speed: float
) -> dict[str, float]:
    """One policy's figures, in engine seconds."""
    begin = WARM_UP * found[-1].at
    engine = ("engine.cli", "emulate", "--profile", "h100-8b-offload", "--speed", str(speed))
    async with (
        running(policy, [engine] * replicas) as (api, _, engines),
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session,
    ):
        tasks: list[tuple[Arrival, asyncio.Task[float | None]]] = []
        before = (0.0, 0.0)
        started = time.perf_counter()
        for arrival in found:
            due = started + arrival.at / PICOSECONDS / speed
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if arrival.at >= begin and before == (0.0, 0.0):
                before = await cached(session, engines)
            tasks.append((arrival, asyncio.create_task(ask(session, api, arrival))))
        took = [(arrival, await task) for arrival, task in tasks]
        after = await cached(session, engines)
    times = sorted(t * speed for arrival, t in took if arrival.at >= begin and t is not None)
    return {
        "ttft_mean": fmean(times),
        "ttft_p50": times[len(times) // 2],
        "ttft_p99": quantiles(times, n=100)[98],
        "hit_rate": (after[0] - before[0]) / (after[1] - before[1]),
        "lost": sum(t is None for _, t in took),
        "requests": len(took),
    }


def table(rows: dict[str, dict[str, float]], options: str) -> str:
    lines = [
        "# Balancers over real sockets",
        "",
        f"`python -m bench.replicas {options}` wrote it. Emulated engines (h100-8b-offload), one "
        f"router, one client; engine seconds. Load average at the end: {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores.",
        "",
        "| policy | TTFT mean s | p50 | p99 | hit rate | lost | requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['ttft_mean']:.2f} | {row['ttft_p50']:.2f} | {row['ttft_p99']:.1f} | "
            f"{row['hit_rate']:.3f} | {row['lost']:.0f} | {row['requests']:.0f} |"
        )
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replicas", default=8, show_default=True)
@click.option("--rate", default=9.4, show_default=True, help="Requests in an engine second.")
@click.option("--seconds", default=180.0, show_default=True, help="Engine seconds of a run.")
@click.option("--speed", default=2.0, show_default=True)
@click.option("--policy", "names", multiple=True, type=click.Choice(list(POLICIES)))
@click.option("--seed", default=1, show_default=True)
def main(
    trace: Path | None,
    replicas: int,
    rate: float,
    seconds: float,
    speed: float,
    names: tuple[str, ...],
    seed: int,
) -> None:
    """Replay a trace through a router with each balancer."""
    recorded = load(trace or next(SHIPPED.glob("*.jsonl.gz")))
    found = arrivals(recorded, rate=rate, duration=seconds, seed=seed)
    rows: dict[str, dict[str, float]] = {}
    for name in names or tuple(POLICIES):
        policy = dict(POLICIES[name])
        if name == "predicted_ttft":  # its one constant in seconds runs as fast as the engines
            policy["decode_weight"] = f"{10 / speed:g}ms"
        rows[name] = asyncio.run(replay(policy, found, replicas, speed))
        print(name, {key: round(value, 3) for key, value in rows[name].items()}, flush=True)
    options = f"--rate {rate:g} --seconds {seconds:g} --speed {speed:g} --seed {seed}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "replicas.json").write_text(json.dumps(rows, indent=2) + "\n")
    (RESULTS / "replicas.md").write_text(table(rows, options))


if __name__ == "__main__":
    main()
