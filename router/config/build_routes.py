"""From a route's configuration to the core's route."""

from router.config.build_actions import build_actions, build_answer
from router.config.build_fault import build_fault
from router.config.build_hedge import build_hedge
from router.config.build_matches import Terms, build_matcher
from router.config.build_retry import build_retry
from router.config.routes import MirrorSpec, RouteSpec
from router.core.admission.token_bucket import BucketSpec
from router.core.cors import Cors
from router.core.fallback import Fallback
from router.core.mirror import Mirror
from router.core.routing import Destination, Route, Timeouts


def build_route(spec: RouteSpec, terms: Terms, cors: Cors | None) -> Route:
    """``cors``: the policy of routes that say nothing of it."""
    return Route(
        name=spec.name,
        match=build_matcher(spec.match, spec.name, terms),
        destinations=tuple(
            Destination(
                arm.cluster,
                arm.weight,
                tuple(sorted(arm.subset.items())),
                build_actions(spec, arm, cors),
            )
            for arm in spec.to
        ),
        timeouts=Timeouts(
            connect=float(spec.timeouts.connect),
            first_byte=float(spec.timeouts.first_byte),
            idle=float(spec.timeouts.idle),
            total=float(spec.timeouts.total),
            queue=float(spec.timeouts.queue),
        ),
        retry=build_retry(spec.retry),
        hedge=build_hedge(spec.hedge),
        split=spec.split,
        answer=build_answer(spec),
        actions=build_actions(spec, None, cors),
        limits=tuple(
            limit.build(f"{spec.name}#{number}") for number, limit in enumerate(spec.limits, 1)
        ),
        fallbacks=tuple(
            Fallback(link.cluster, tuple(sorted(link.subset.items())), link.model)
            for link in spec.fallbacks
        ),
        mirrors=tuple(_mirror(one) for one in spec.mirror),
        fault=None if spec.fault is None else build_fault(spec.fault),
    )


def _mirror(spec: MirrorSpec) -> Mirror:
    most = spec.max_tokens_per_minute
    return Mirror(
        cluster=spec.cluster,
        subset=tuple(sorted(spec.subset.items())),
        percent=float(spec.percent),
        # A copy that came to more than was assumed is paid for by those after it.
        tokens=None if most is None else BucketSpec(float(most), most / 60.0, float(most)),
        assumed_tokens=spec.assumed_tokens,
        max_in_flight=spec.max_in_flight,
        timeout=float(spec.timeout),
        host_suffix=spec.host_suffix,
        log=spec.log,
    )
