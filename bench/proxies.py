"""What the router costs beside other proxies, all measured at the same time.

    python -m bench.proxies [--quick] [--install] [--only warmpath,nginx]

Every proxy stands in front of the same two emulated engines and gets the same open-loop work at
the same moments, so whatever else happens on the machine hits all alike: trust the ratios, not the
microseconds.  Proxies share one core, engines and load generator another.  CPU is user plus system
of a proxy with all its threads and children between two moments, divided by the checked answers
(or token chunks) of the same span.  The works:

    idle     nothing to do but each proxy's own probes and timers; this much is taken off below
    small    1000 req/s of about 500 bytes each
    prompts  100 req/s of 128 KB each
    ttft     one stream after the other on one connection, proxies in turn, against going direct
    streams  70 streams at 20 ms a token
    crowd    500 streams at 100 ms a token, on one proxy after the other
    stalled  20 clients that ask for 14 MB each and do not read: how much the proxy grows

Results go to bench/results/proxies.md and .json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.cpu import cpu_seconds, resident_bytes
from bench.machine import described
from bench.peers import ROOT, Peer, install, peers

RESULTS = ROOT / "bench" / "results"
ENGINES = 2
START_SECONDS = 30.0


class Running:
    """A started proxy."""

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes] | None) -> None:
        self.name = name
        self.port = port
        self.process = process


def free_port() -> int:
    """A port that was free a moment ago, with a free neighbour above it."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def pin(core: int) -> list[str]:
    """Command prefix that keeps a process on one core."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[core % len(cores)])]


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask, then insist."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    """Whether a chat request through `port` comes back with 200."""
    body = {"model": "emulated", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def world(chosen: list[Peer], engine_flags: list[str]) -> Iterator[tuple[list[Running], list[str]]]:
    """Engines and all chosen proxies, up and answering; and the names of those that would not."""
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="warmpath-bench-") as temporary:
        try:
            engines = [free_port() for _ in range(ENGINES)]
            for port in engines:
                command = [sys.executable, "-m", "engine.emulator", "--port", str(port)]
                command += ["--no-enable-prefix-caching", *engine_flags]
                started.append(_start([*pin(1), *command], Path(temporary) / f"engine-{port}"))
            _wait([Running("engine", port, None) for port in engines])
            running = [Running("direct", engines[0], None)]
            for peer in chosen:
                assert peer.program is not None
                folder = Path(temporary) / peer.name
                folder.mkdir()
                port = free_port()
                command = peer.command(peer.program, folder, port, engines)
                started.append(_start([*pin(0), *command], folder / "log"))
                running.append(Running(peer.name, port, started[-1]))
            missing = _wait(running)
            for name in missing:
                log = Path(temporary) / name / "log"
                print(f"{name} did not come up:\n{log.read_text()[-2000:]}", file=sys.stderr)
            yield [r for r in running if r.name not in missing], missing
        finally:
            stop(started)


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT)


def _wait(running: list[Running]) -> list[str]:
    deadline = time.monotonic() + START_SECONDS
    waiting = list(running)
    while waiting and time.monotonic() < deadline:
        waiting = [
            r
            for r in waiting
            if not answers(r.port) and (r.process is None or r.process.poll() is None)
        ]
        time.sleep(0.1)
    up = {r.name for r in running if answers(r.port)}
    return [r.name for r in running if r.name not in up]


def measure(
    running: list[Running], workload: str, flags: list[str], idle: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """One load run against all of `running` at once, with CPU per proxy.

    Args:
        idle: what `_idle` found; taken off, so that a fixed cost does not depend on the rate.
    """
    command = [*pin(1), sys.executable, "-m", "bench.load", "--workload", workload, *flags]
    for one in running:
        command += ["--target", f"{one.name}=127.0.0.1:{one.port}"]
    before: dict[str, float] = {}
    began = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as load:
        assert load.stdout is not None
        for line in load.stdout:
            event = json.loads(line)
            now = {r.name: cpu_seconds(r.process.pid) for r in running if r.process}
            if event["event"] == "start":
                before, began = now, time.monotonic()
                continue
            span = time.monotonic() - began
            report: dict[str, dict[str, Any]] = event["targets"]
            for one in running:
                if one.process:
                    spent = now[one.name] - before[one.name]
                    if idle is not None:
                        spent -= idle[one.name]["cpu_ms_per_s"] / 1e3 * span
                    result = report[one.name]
                    units = result["chunks"] or result["requests"]
                    result["cpu_us"] = round(spent / max(1, units) * 1e6, 2)
                    result["rss_mb"] = round(resident_bytes(one.process.pid) / 1e6, 1)
            return report
    raise SystemExit(f"the load generator failed: {' '.join(command)}")


def run(chosen: list[Peer], *, quick: bool) -> dict[str, Any]:
    """All works; keys are works, then proxies."""
    span = ["--seconds", "5" if quick else "20", "--warmup", "1.5" if quick else "4"]
    results: dict[str, Any] = {}
    with world(chosen, []) as (running, missing):
        results["missing"] = missing
        proxies = running[1:]
        results["idle"] = idle = _idle(proxies, 5.0)
        results["small"] = measure(proxies, "requests", ["--rate", "1000", *span], idle)
        big = ["--rate", "100", "--body", "128000", *span]
        results["prompts"] = measure(proxies, "requests", big, idle)
        results["ttft"] = _ttft(running, rounds=2 if quick else 4)
    with world(chosen, ["--decode-step", "0.02"]) as (running, _):
        streams = ["--concurrency", "70", "--tokens", "100", *span]
        results["streams"] = measure(running[1:], "streams", streams, idle)
    with world(chosen, ["--decode-step", "0.1", "--max-num-seqs", "1024"]) as (running, _):
        crowd = ["--concurrency", "500", "--tokens", "60", *span]
        results["crowd"] = {
            one.name: measure([one], "streams", crowd, idle)[one.name] for one in running[1:]
        }
    with world(chosen, ["--chunk-size", "14000"]) as (running, _):
        results["stalled"] = _stalled(running[1:], "3" if quick else "8")
    results["load_average"] = os.getloadavg()
    return results


def _idle(running: list[Running], seconds: float) -> dict[str, dict[str, Any]]:
    before = {r.name: cpu_seconds(r.process.pid) for r in running if r.process}
    time.sleep(seconds)
    return {
        r.name: {"cpu_ms_per_s": (cpu_seconds(r.process.pid) - before[r.name]) / seconds * 1e3}
        for r in running
        if r.process
    }


def _stalled(running: list[Running], seconds: str) -> dict[str, dict[str, Any]]:
    before = {r.name: resident_bytes(r.process.pid) for r in running if r.process}
    flags = ["--concurrency", "20", "--tokens", "1000", "--warmup", "0", "--seconds", seconds]
    report = measure(running, "stalled", flags)
    for name, result in report.items():
        result["grown_mb"] = round(result["rss_mb"] - before[name] / 1e6, 1)
    return report


def _ttft(running: list[Running], rounds: int) -> dict[str, dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}
    flags = ["--concurrency", "1", "--tokens", "4", "--seconds", "0.6", "--warmup", "0.1"]
    for _ in range(rounds):
        for one in running:
            result = measure([one], "streams", flags)[one.name]
            known = best.get(one.name)
            # Noise only ever adds: the quietest round is the nearest to the truth.
            if known is None or result.get("ttft_p50_ms", 1e9) < known["ttft_p50_ms"]:
                best[one.name] = result
    return best


def table(results: dict[str, Any], left_out: list[str]) -> str:
    """The report as Markdown."""
    names = [n for n in results["small"] if n in results["streams"]]
    columns = [("small", "us/request"), ("prompts", "us/128 KB prompt"), ("streams", "us/chunk")]
    columns += [("crowd", "us/chunk, 500 streams")]
    lines = [
        "# Proxies side by side",
        "",
        f"{described()} CPU per unit of work, all proxies at the same time; "
        "compare within this table only; each proxy's idle CPU is taken off. "
        "`python -m bench.proxies` writes it.",
        "",
    ]
    head = ["proxy"]
    for work, unit in columns:
        head += [f"{work} {unit}", *(f"/ {base}" for base in ("nginx", "envoy") if base in names)]
    head += ["TTFT p50 ms (added)", "TTFT p99 ms", "gap p99 ms", "errors", "RSS MB"]
    head += ["20 stalled readers: RSS growth MB", "idle CPU ms/s"]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    direct = results["ttft"]["direct"]["ttft_p50_ms"]
    for name in names:
        row = [name]
        for work, _ in columns:
            cost = results[work][name]["cpu_us"]
            row.append(f"{cost:.1f}")
            for base in ("nginx", "envoy"):
                if base in names:
                    row.append(f"{cost / max(1e-9, results[work][base]['cpu_us']):.2f}")
        ttft = results["ttft"][name]
        row.append(f"{ttft['ttft_p50_ms']:.2f} ({ttft['ttft_p50_ms'] - direct:+.2f})")
        row.append(f"{ttft['ttft_p99_ms']:.2f}")
        row.append(f"{results['streams'][name]['gaps_p99_ms']:.1f}")
        works = ("small", "prompts", "ttft", "streams", "crowd")
        row.append(str(sum(sum(results[w][name]["errors"].values()) for w in works)))
        row.append(str(results["streams"][name]["rss_mb"]))
        row.append(str(results["stalled"].get(name, {}).get("grown_mb", "-")))
        row.append(f"{results['idle'][name]['cpu_ms_per_s']:.1f}")
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", f"Going direct: TTFT p50 {direct:.2f} ms. Load average at the end: "]
    lines[-1] += f"{results['load_average'][0]:.1f} on {os.cpu_count()} cores."
    if left_out:
        lines.append(f"Left out, not installed or not started: {', '.join(left_out)}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a minute instead of several")
    parser.add_argument("--install", action="store_true", help="install peers from PyPI first")
    parser.add_argument("--only", default="", help="comma-separated names of proxies")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args()
    if options.install:
        install()
    wanted = [name for name in options.only.split(",") if name]
    every = [p for p in peers() if not wanted or p.name in wanted]
    chosen = [p for p in every if p.program]
    absent = [p.name for p in every if not p.program]
    if not chosen:
        raise SystemExit(f"none of these is installed: {', '.join(absent) or options.only}")
    results = run(chosen, quick=options.quick)
    results["left_out"] = absent + results.pop("missing")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "proxies.json").write_text(json.dumps(results, indent=1) + "\n")
    report = table(results, results["left_out"])
    (options.output / "proxies.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
