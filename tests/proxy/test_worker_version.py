"""A package that is replaced under a router: the next worker to start is of another version."""

import subprocess
import sys

import msgspec
import pytest

from router.telemetry.version import VERSION


@pytest.mark.parametrize("options", [{"version": "0.0.7", "rows": 1}, {"fields": "of an old one"}])
def test_a_worker_serves_no_router_of_another_version(options: dict[str, object]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "router.proxy.worker", msgspec.json.encode(options).decode()],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 1
    theirs = options.get("version")
    assert f"version {VERSION} cannot serve a router of version {theirs}" in ended.stderr
    assert "Restart the router" in ended.stderr
    assert "Traceback" not in ended.stderr
