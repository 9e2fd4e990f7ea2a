"""Scorers of the balancer ``scored``: one file each, and one line here.

A scorer's ``Spec`` is its YAML (a tagged union, tag field ``type``) and builds the scorer.
"""

from typing import TYPE_CHECKING, Union

from router.core.scorers.base import ScorerSpec
from router.core.scorers.in_flight import InFlight
from router.core.scorers.kv_utilization import KvUtilization
from router.core.scorers.latency import LatencyScorer
from router.core.scorers.lora_affinity import LoraAffinity
from router.core.scorers.prefix_match import PrefixMatch
from router.core.scorers.queue_depth import QueueDepth
from router.core.scorers.running import Running
from router.core.scorers.session import SessionScorer
from router.core.scorers.token_load import TokenLoad

REGISTRY = (
    PrefixMatch,
    QueueDepth,
    KvUtilization,
    TokenLoad,
    InFlight,
    Running,
    LatencyScorer,
    LoraAffinity,
    SessionScorer,
)
"""Every scorer that a configuration can name."""

if TYPE_CHECKING:
    AnyScorer = ScorerSpec
else:
    AnyScorer = Union[tuple(scorer.Spec for scorer in REGISTRY)]  # noqa: UP007
