"""Compiles the data plane's hot path to C where asked: ``WARMPATH_COMPILE=1 pip install .``

The modules are the same typed Python; mypyc turns them into extensions. Without the variable
they run as they are. What is compiled is type-checked first, with all that it imports, so the
isolated environment of a build needs these libraries too.
"""

import os

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
        for extension in extensions:
            # Modules reach each other by tables, not by symbols. So their functions may call each
            # other directly, and Python's without a detour: less code to fetch, a tenth of the CPU
            # time of a small request.
            extension.extra_compile_args += ["-fvisibility=hidden", "-fno-plt"]

setup(ext_modules=extensions, setup_requires=requires)
