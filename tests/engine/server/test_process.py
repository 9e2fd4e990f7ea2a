"""The command as a process: it starts, serves, drains on SIGTERM and leaves with 0."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp


async def test_serve_drains_on_sigterm(checkpoint: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.cli", "serve", str(checkpoint), "--load-format", "dummy"),
        *("--host", "127.0.0.1", "--port", "0", "--threads", "1", "--shutdown-timeout", "20"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    try:
        line = ""
        while "serving" not in line:
            line = (await process.stderr.readline()).decode()
            assert line, "the server ended before it served"
        found = re.search(r"http://\S+", line)
        assert found is not None
        body = {"prompt": "hello", "max_tokens": 400, "ignore_eos": True, "stream": True}
        async with (
            aiohttp.ClientSession(base_url=found[0]) as http,
            http.post("/v1/completions", json=body) as response,
        ):
            await response.content.readuntil(b"\n\n")
            process.send_signal(signal.SIGTERM)
            assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        await process.stderr.read()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
