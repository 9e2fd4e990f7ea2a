"""What every area's tests share.

A test that needs a real tool asks the ``tool`` fixture for it: a developer's machine without the
tool skips the test and says why; continuous integration (``CI=true``), which installs its tools,
fails instead.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# nginx lives in sbin on Debian, which is not on every user's PATH.
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """``tool("chromium", "google-chrome")``: the path of the first of these that is installed."""

    def find(*names: str) -> str:
        for name in names:
            path = shutil.which(name, path=SEARCH_PATH)
            if path is not None:
                return path
        missing = f"{' or '.join(names)} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing}, and continuous integration must have it")
        pytest.skip(missing)

    return find
