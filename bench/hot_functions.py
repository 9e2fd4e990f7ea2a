"""Which compiled functions nearly every request runs.

    python -m bench.hot_functions

Two interpreted routers, one as ``bench.proxies`` has it and one with the default balancer, limits
and an access log, count their workers' calls under small requests and streams. What is called for
three requests of ten or more goes to router/hot_functions.txt; ``setup.py`` has the compiler set
these functions side by side, see docs/adr/0014. Half a minute; run it when the hot path changed.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.peers import ROOT, Peer, warmpath_command
from bench.proxies import measure, world

FOUND: Final = ROOT / "router/hot_functions.txt"
SHARE: Final = 0.3
"""Of the requests."""

ONCE: Final = ("router.proxy.accounting", "record_of")
"""Called once for each request."""

HOOK: Final = """\
import atexit, collections, json, sys
if "router.proxy.worker" in sys.orig_argv:
    calls = collections.Counter()
    def count(frame, event, _):
        if event == "call":
            calls[frame.f_globals.get("__name__"), frame.f_code.co_qualname] += 1
    def write():
        sys.setprofile(None)
        with open({path!r}, "w") as file:
            json.dump([[*key, times] for key, times in calls.items()], file)
    atexit.register(write)
    sys.setprofile(count)
"""

LIMIT: Final = "    limits: [{max_tokens: 1000000, tokens_per_fill: 1000000}]\n"


def _plain(calls: Path, program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    """A router whose worker writes its calls when it ends."""
    (folder / "sitecustomize.py").write_text(HOOK.format(path=str(calls)))
    command = warmpath_command(program, folder, port, engines)
    with (folder / "warmpath.yaml").open("a") as config:
        config.write("drain: {min_drain: 0s}\n")
    return ["env", f"PYTHONPATH={folder}:{ROOT}", *command]


def _loaded(calls: Path, program: str, folder: Path, port: int, engines: list[int]) -> list[str]:
    """The same with what most have configured."""
    command = _plain(calls, program, folder, port, engines)
    config = folder / "warmpath.yaml"
    text = config.read_text().replace("    balancer: {type: least_request}\n", "")
    text = text.replace('{path: "off"}', f"{{path: {folder / 'access.log'}}}")
    config.write_text(text.replace("    match: {}\n", f"    match: {{}}\n{LIMIT}"))
    return command


def hot(calls: Counter[tuple[str, str]], modules: set[str]) -> Iterator[tuple[str, str]]:
    """Functions of these modules that are called often enough."""
    enough = calls[ONCE] * SHARE
    for (module, function), times in calls.items():
        if module in modules and times >= enough and "<" not in function:
            yield module, function


def compiled_modules() -> set[str]:
    """As ``setup.py`` lists them."""
    lines = (ROOT / "setup.py").read_text().splitlines()
    paths = (line.strip(' ",') for line in lines if line.startswith('    "router/'))
    return {path.removesuffix(".py").replace("/", ".") for path in paths}


def counted(calls: Path) -> Counter[tuple[str, str]]:
    """What a worker wrote there."""
    rows = json.loads(calls.read_text())
    return Counter({(module, function): times for module, function, times in rows})


def main() -> None:
    program, modules = str(Path(sys.executable).parent / "warmpath"), compiled_modules()
    found: set[tuple[str, str]] = set()
    for workload, flags in (("requests", ["--rate", "100"]), ("streams", ["--concurrency", "10"])):
        with tempfile.TemporaryDirectory(prefix="warmpath-hot-") as folder:
            files = {name: Path(folder) / name for name in ("plain", "loaded")}
            peers = [
                Peer("plain", program, partial(_plain, files["plain"])),
                Peer("loaded", program, partial(_loaded, files["loaded"])),
            ]
            with world(peers, ["--decode-step", "0.02"]) as (running, missing):
                if missing:
                    raise SystemExit(f"{', '.join(missing)} did not come up")
                measure(running[1:], workload, flags)
            for file in files.values():
                found.update(hot(counted(file), modules))
    lines = [f"{module} {function}" for module, function in sorted(found)]
    FOUND.write_text("\n".join([*lines, ""]))
    print(f"{len(lines)} functions")


if __name__ == "__main__":
    main()
