"""What the metrics page says of engines that are listened to."""

from router.control.kv_events.watch import KvEventWatch
from router.telemetry.totals import Labels, Totals

GAUGES = ("kv_events_in_step", "kv_events_whole", "kv_event_blocks", "kv_event_names")


def add_kv_events(totals: Totals, watch: KvEventWatch) -> None:
    """Put in what ``watch`` counts."""
    gauges: dict[str, dict[Labels, float]] = {name: {} for name in GAUGES}
    batches: dict[Labels, float] = {}
    incidents: dict[Labels, float] = {}
    refused: dict[Labels, float] = {}
    for listening in watch.listening.values():
        endpoint, view = listening.standing.endpoint, listening.view
        labels = (endpoint.cluster, endpoint.address)
        cache, counts = view.cache, view.counts
        values = (float(view.in_step), float(view.whole), cache.blocks, cache.ties)
        for name, value in zip(GAUGES, values, strict=True):
            gauges[name][labels] = value
        batches[labels] = counts.batches
        incidents[*labels, "gap"] = counts.gaps
        incidents[*labels, "replay"] = counts.replays
        incidents[*labels, "lost"] = counts.lost
        incidents[*labels, "restart"] = counts.restarts
        refused[*labels, "block"] = cache.unknown
        refused[*labels, "name"] = cache.untied
    totals.gauges.update(gauges)
    totals.counters["kv_event_batches_total"] = batches
    totals.counters["kv_event_incidents_total"] = incidents
    totals.counters["kv_event_refused_total"] = refused
    tips = totals.counters.setdefault("kv_event_tips_total", {})
    tips["unheeded",] = watch.unheeded
    totals.counters["kv_event_workers_behind_total"] = {(): watch.behind}
