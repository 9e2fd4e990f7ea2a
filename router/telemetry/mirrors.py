"""What a worker tells of the copies that its routes send to mirrors."""

from collections.abc import Mapping

from router.core.mirror import MirrorState
from router.telemetry.totals import Labels, Totals


def add_mirrors(totals: Totals, states: Mapping[tuple[str, str], MirrorState]) -> None:
    """Add the counts of these mirrors, by route and cluster."""
    ended: dict[Labels, float] = {}
    skipped: dict[Labels, float] = {}
    tokens: dict[Labels, float] = {}
    in_flight: dict[Labels, float] = {}
    for labels, state in states.items():
        ended.update(((*labels, ending), count) for ending, count in state.ended.items())
        skipped.update(((*labels, why), count) for why, count in state.skipped.items())
        tokens[labels] = state.tokens
        in_flight[labels] = state.in_flight
    totals.counters["mirrored_requests_total"] = ended
    totals.counters["mirrors_skipped_total"] = skipped
    totals.counters["mirrored_tokens_total"] = tokens
    totals.gauges["mirrors_in_flight"] = in_flight
