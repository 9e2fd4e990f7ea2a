"""Balancers: one file each, and one line here.

A balancer's ``Spec`` is its YAML (a tagged union, tag field ``type``) and builds the balancer.
"""

from router.core.balancers.cache_aware import CacheAware
from router.core.balancers.chwbl import Chwbl
from router.core.balancers.dynamo_cost import DynamoCost
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.maglev import Maglev
from router.core.balancers.peak_ewma import PeakEwma
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.balancers.prefix_hash import PrefixHash
from router.core.balancers.random import RandomChoice
from router.core.balancers.ring_hash import RingHash
from router.core.balancers.round_robin import RoundRobin
from router.core.balancers.scored import Scored

REGISTRY = (
    PredictedTtft,
    RoundRobin,
    RandomChoice,
    LeastRequest,
    PrefixHash,
    RingHash,
    Maglev,
    PeakEwma,
    Chwbl,
    CacheAware,
    DynamoCost,
    Scored,
)
"""Every balancer that a configuration can name."""
