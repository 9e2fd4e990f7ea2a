"""Compiles the data plane's hot path to C where asked: ``WARMPATH_COMPILE=1 pip install .``

The modules are the same typed Python; mypyc turns them into extensions. Without the variable
they run as they are. What is compiled is type-checked first, with all that it imports, so the
isolated environment of a build needs these libraries too.
"""

import os
import re
from pathlib import Path

from setuptools import setup

COMPILED = [
    "router/control/board.py",
    "router/control/interlock.py",
    "router/control/shared_buckets.py",
    "router/core/admission/breaker.py",
    "router/core/admission/claims.py",
    "router/core/admission/controller.py",
    "router/core/admission/estimates.py",
    "router/core/admission/limiter.py",
    "router/core/admission/meter.py",
    "router/core/admission/places.py",
    "router/core/admission/plan.py",
    "router/core/admission/rate_limit.py",
    "router/core/admission/reservation.py",
    "router/core/admission/token_bucket.py",
    "router/core/balancers/fewest_requests.py",
    "router/core/balancers/first_token.py",
    "router/core/balancers/loads.py",
    "router/core/director.py",
    "router/core/events.py",
    "router/core/exchange.py",
    "router/core/fleet.py",
    "router/core/forecast/candidates.py",
    "router/core/forecast/cost.py",
    "router/core/forecast/forecast.py",
    "router/core/forecast/foresight.py",
    "router/core/forecast/outlook.py",
    "router/core/forecast/recalled.py",
    "router/core/forecast/work.py",
    "router/core/health/monitor.py",
    "router/core/host.py",
    "router/core/hostset.py",
    "router/core/listener.py",
    "router/core/model.py",
    "router/core/prefix/ends.py",
    "router/core/prefix/holders.py",
    "router/core/prefix/mirror.py",
    "router/core/prefix/page.py",
    "router/core/prefix/trust.py",
    "router/core/retry/budget.py",
    "router/core/retry/hedge.py",
    "router/core/retry/quantiles.py",
    "router/core/retry/race.py",
    "router/core/route_index.py",
    "router/core/routing.py",
    "router/core/session/counts.py",
    "router/core/session/sticky.py",
    "router/core/shared_load.py",
    "router/core/snapshot.py",
    "router/core/trace.py",
    "router/core/traffic.py",
    "router/core/transitions.py",
    "router/proxy/accounting.py",
    "router/proxy/carried.py",
    "router/proxy/client.py",
    "router/proxy/date.py",
    "router/proxy/door.py",
    "router/proxy/downstream.py",
    "router/proxy/fault.py",
    "router/proxy/headers.py",
    "router/proxy/journal.py",
    "router/proxy/known_heads.py",
    "router/proxy/metering.py",
    "router/proxy/paths.py",
    "router/proxy/peek.py",
    "router/proxy/phase.py",
    "router/proxy/pool.py",
    "router/proxy/race.py",
    "router/proxy/relay.py",
    "router/proxy/repeats.py",
    "router/proxy/reply.py",
    "router/proxy/request_id.py",
    "router/proxy/respond.py",
    "router/proxy/response_head.py",
    "router/proxy/seen.py",
    "router/proxy/server.py",
    "router/proxy/shadow.py",
    "router/proxy/timers.py",
    "router/proxy/upstream.py",
    "router/proxy/usage.py",
    "router/proxy/waiting.py",
    "router/telemetry/counting.py",
    "router/telemetry/record.py",
]


def set_side_by_side(functions):
    """Mark the functions that nearly every request runs, lines of ``module function``, in the C
    that mypyc has written: compilers put what is hot into a section of its own."""
    hot = set()
    for line in functions:
        module, function = line.split()
        names = module.split(".")
        # mypyc leaves off what of a module's name is not needed to tell it from others.
        prefixes = ["___".join(names[first:]) for first in range(len(names))]
        function = function.replace(".", "___")
        hot.update(f"CPyDef_{prefix}___{function}" for prefix in prefixes)
    marked = 0
    for header in Path("build").glob("__native_internal_*.h"):
        lines = header.read_text().splitlines()
        for number, line in enumerate(lines):
            found = re.fullmatch(r".*?\b(CPyDef_\w+)\([^;]*\);", line)
            if found and found[1] in hot:
                lines[number] = f"{line[:-1]} __attribute__((hot));"
                marked += 1
        header.write_text("\n".join([*lines, ""]))
    if marked < len(functions) * 0.9:
        raise SystemExit(f"found only {marked} of {len(functions)} hot functions in mypyc's C")


extensions = []
requires = []
if os.environ.get("WARMPATH_COMPILE") == "1":
    requires = ["mypy==2.4.1", "msgspec>=0.22", "pyjwt>=2.15", "xxhash>=4.1"]
    try:
        from mypyc.build import mypycify
    except ImportError:  # the build front end is only asking what to install for the build
        pass
    else:
        # At 3 loops are unrolled: a small request costs 4 % more where other processes share the
        # core and its cache (bench.proxies), and no benchmark here less.
        extensions = mypycify(COMPILED, opt_level="2")
        set_side_by_side(Path("router/hot_functions.txt").read_text().splitlines())
        for extension in extensions:
            # Modules reach each other by tables, not by symbols. So their functions may call each
            # other directly, and Python's without a detour: less code to fetch, a tenth of the CPU
            # time of a small request.
            extension.extra_compile_args = [
                *extension.extra_compile_args,
                "-fvisibility=hidden",
                "-fno-plt",
            ]

setup(ext_modules=extensions, setup_requires=requires)
