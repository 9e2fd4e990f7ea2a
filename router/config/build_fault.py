"""From a route's faults to the core's, and what is wrong with them that types cannot say."""

from collections.abc import Iterator

from router.config.build_matches import condition
from router.config.fault import FaultSpec
from router.config.findings import Path, Problem
from router.config.match_references import header_problems
from router.core import fault as core


def problems(spec: FaultSpec, path: Path) -> Iterator[Problem]:
    """What the types cannot say."""
    yield from header_problems(spec.headers, (*path, "headers"))
    if all(getattr(spec, kind) is None for kind in core.KINDS):
        yield Problem(path, f"no fault is given: at least one of {', '.join(core.KINDS)}")
    cut, stall = spec.cut, spec.stall
    if cut is not None and cut.percent >= 100 and stall is not None and stall.after >= cut.after:
        yield Problem(
            (*path, "stall", "after"),
            f"every stream is cut after {cut.after} events, before it could stall",
        )


def build_fault(spec: FaultSpec) -> core.Fault:
    """The core's form."""
    delay, abort, cut, stall = spec.delay, spec.abort, spec.cut, spec.stall
    return core.Fault(
        delay=None if delay is None else core.Delay(float(delay.duration), float(delay.percent)),
        abort=None if abort is None else core.Abort(abort.status, float(abort.percent)),
        cut=None if cut is None else core.Cut(cut.after, float(cut.percent)),
        stall=None
        if stall is None
        else core.Stall(stall.after, float(stall.duration), float(stall.percent)),
        headers=tuple((name.lower(), condition(one)) for name, one in spec.headers.items()),
        max_active=spec.max_active,
    )
