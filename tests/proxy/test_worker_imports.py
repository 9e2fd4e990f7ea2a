"""What a worker carries: each has it again in its own memory."""

import subprocess
import sys

CONTROLS = ("aiohttp", "click", "prometheus_client", "rich", "structlog", "tenacity", "yaml")


def test_a_worker_loads_no_library_of_control() -> None:
    program = (
        "import sys\n"
        "import router.proxy.worker\n"
        f"loaded = set({CONTROLS!r}) & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
