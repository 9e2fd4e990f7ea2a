"""The limit on open files, in a process of its own for each case."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from router.control.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(64, 512), (512, 512), (64, 64)])
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int) -> None:
    script = SCRIPT.format(soft=soft, hard=hard)
    ended = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert ended.stdout.split() == [str(hard)] * 3
