"""What is installed from a wheel, as in our images, is complete: page, checkpoint, type markers."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.repo.test_house_rules import FILES, ROOT


@pytest.mark.slow
def test_the_wheel_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for path in FILES:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    subprocess.run(
        [*pip, "--no-deps", "--wheel-dir", str(tmp_path), str(source)], check=True, timeout=110
    )
    (wheel,) = tmp_path.glob("warmpath-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in FILES
        if path.relative_to(ROOT).parts[0] in {"router", "engine", "kernels"}
        and path.suffix != ".md"
    }
    assert wanted <= packed
    assert not any(name.startswith(("tests/", "bench/", "deploy/")) for name in packed)
