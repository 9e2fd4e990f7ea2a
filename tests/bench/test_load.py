"""The load generator finds what is wrong with an answer, and counts what is right."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from typing import Any

import pytest

from bench.cpu import cpu_seconds, resident_bytes, tree
from engine.emulator import PROFILES, Emulator, EmulatorConfig

QUICK = ("--warmup", "0.1", "--seconds", "0.5", "--concurrency", "4")


async def load(emulator: Emulator, *flags: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.load", "--target", f"e={emulator.address}", *QUICK, *flags),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    start, stop = (json.loads(line) for line in out.splitlines())
    assert (process.returncode, start["event"], stop["event"]) == (0, "start", "stop")
    return dict(stop["targets"]["e"])


@pytest.mark.parametrize("rate", ["0", "100"])
async def test_requests(rate: str) -> None:
    async with Emulator(EmulatorConfig()) as emulator:
        report = await load(emulator, "--workload", "requests", "--rate", rate)
    assert report["errors"] == {}
    assert report["requests"] >= 5  # of 100 a second; how many is the machine's speed
    assert report["latency_p50_ms"] <= report["latency_p99_ms"]


async def test_streams() -> None:
    timing = replace(PROFILES["instant"], decode_step=0.01)
    async with Emulator(EmulatorConfig(timing=timing)) as emulator:
        report = await load(emulator, "--workload", "streams", "--tokens", "5")
    assert report["errors"] == {}
    assert report["chunks"] >= 10
    assert report["gaps_p50_ms"] > 4


@pytest.mark.parametrize(
    ("workload", "fault", "error"),
    [
        ("requests", "status=503", "status 503"),
        ("streams", "status=503", "status 503"),
        ("streams", "reset_mid=3", "cut: ConnectionResetError"),
        ("streams", "fin_mid=3", "cut: closed"),
        ("streams", "bad_chunk=3", "parse: Invalid character in chunk size"),
    ],
)
async def test_errors_are_counted(workload: str, fault: str, error: str) -> None:
    async with Emulator(EmulatorConfig()) as emulator:
        emulator.add_fault(fault)
        report = await load(emulator, "--workload", workload, "--rate", "50")
    assert report["requests"] == 0
    assert report["errors"].get(error, 0) >= 1, report["errors"]


async def test_stalled_readers_do_not_read() -> None:
    async with Emulator(EmulatorConfig(chunk_size=14_000)) as emulator:
        await load(emulator, "--workload", "stalled", "--tokens", "1000")
        assert [a.sent_tokens < 900 for a in emulator.requests.aborts] == [True] * 4
        # They stayed to the end instead of leaving early.
        assert min(a.gone - a.arrived for a in emulator.requests.aborts) > 0.3


def test_cpu_and_memory_of_a_tree() -> None:
    before = cpu_seconds(os.getpid())
    total = sum(i * i for i in range(1_000_000))
    assert total > 0
    assert 0.005 < cpu_seconds(os.getpid()) - before < 10
    assert os.getpid() in tree(os.getpid())
    assert resident_bytes(os.getpid()) > 5_000_000
