"""What a benchmark ran on, in words: its figures mean little without."""

from __future__ import annotations

import os
import platform
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
    """Version, and whether it was built with profiles: distributions' Pythons are, and a router
    runs a tenth quicker on one that was."""
    plain = "--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    built = "built without --enable-optimizations" if plain else "optimized build"
    return f"CPython {platform.python_version()} ({built})"


def described() -> str:
    """One sentence."""
    return f"{processor()}, {os.cpu_count()} cores, Linux {platform.release()}, {interpreter()}."
