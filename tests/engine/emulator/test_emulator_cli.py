"""The emulator as a process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner

from engine.emulator.cli import emulate

COMMAND = [sys.executable, "-m", "engine.emulator", "--port", "0"]
FLAGS = (
    "--served-model-name m --name e7 --profile cpu-tiny --speed 100 --max-model-len 4096 "
    "--num-gpu-blocks-override 64 --block-size 16 --fault status=500;count=1"
)


def test_start_serve_and_stop() -> None:
    with subprocess.Popen([*COMMAND, *FLAGS.split()], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            address = re.fullmatch(r"e7 serves m on (http://127\.0\.0\.1:\d+)\n", line)
            assert address is not None, line
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(address[1] + "/v1/models", timeout=10) as answer:
                card = json.load(answer)["data"][0]
                assert answer.headers["x-emulator-name"] == "e7"
            # What the KV cache holds is the limit: 64 blocks of 16.
            assert (card["id"], card["max_model_len"]) == ("m", 1024)
            with opener.open(address[1] + "/emulator/faults", timeout=10) as answer:
                assert [f["kind"] for f in json.load(answer)["faults"]] == ["status"]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_no_torch_and_no_aiohttp() -> None:
    code = (
        "import sys, engine.emulator.cli; heavy = 'torch numpy aiohttp transformers zmq'.split(); "
        "sys.exit(any(m in sys.modules for m in heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fault", "flood"], "kind"),
        (["--max-num-seqs", "0"], "max_num_seqs must be between"),
        (["--profile", "tpu"], "tpu"),
        (["--speed", "0"], "speed must be between"),
        (["--decode-per-kv-token", "2"], "decode_per_kv_token must be between"),
        (["--host-blocks", "-1"], "host_blocks must be between"),
        (["--reload-per-token", "-1"], "reload_per_token must be between"),
        (["--max-num-batched-tokens", "9"], "max_num_batched_tokens (9) must be at least"),
        (["--max-num-queued-reqs", "0"], "max_num_queued_reqs must be at least 1"),
        (["--api-key", ""], "api_key must not be empty"),
        (["--shutdown-timeout", "-1"], "--shutdown-timeout"),
        (["--shutdown-timeout", "nan"], "--shutdown-timeout must be a finite number"),
        (["--kv-events-config", "[]"], "--kv-events-config: must be a JSON object"),
        (["--kv-events-config", '{"topics": 1}'], "--kv-events-config: Object contains unknown"),
        (["--kv-events-encoding", "json"], "json"),
        (
            ["--no-enable-prefix-caching", "--kv-events-config", '{"enable_kv_cache_events":true}'],
            "kv_events need prefix caching",
        ),
    ],
)
def test_bad_settings_exit_2_and_say_which(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(emulate, ["--port", "0", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
