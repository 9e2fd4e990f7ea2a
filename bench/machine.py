"""What a benchmark ran on, in words: its figures mean little without."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from pathlib import Path


def processor() -> str:
    """The model that Linux tells, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def interpreter() -> str:
    """Version and how it was built: distributions build with profiles, and a router runs a tenth
    quicker on such a Python than on one that was built by hand and is plain."""
    if sys.base_prefix == "/usr":
        built = "the distribution's build"
    elif "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        built = "optimized build"
    else:
        built = "built without --enable-optimizations"
    return f"CPython {platform.python_version()} ({built})"


def described() -> str:
    """One sentence."""
    return f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}, {interpreter()}."
