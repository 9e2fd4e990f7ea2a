"""The part of the catalogue that tells what balancing predicts, and what it is told for that."""

from router.telemetry.metric import Metric, counter, gauge

PREDICTION: tuple[Metric, ...] = (
    gauge(
        "endpoint_prefill_queue_seconds",
        "Predicted seconds of prompts in line at the endpoint, of all routers that tell.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "endpoint_pace",
        "Observed seconds of prefill for each predicted one; 2: half as fast as assumed.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "endpoint_cached_prefixes",
        "Beginnings of prompts that the endpoint's cache is thought to hold.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "endpoint_sure_prefixes",
        "Those of them that the engine says it holds, by KV events; the others are estimated.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "cache_mirror_believed",
        "Share of workers whose picks rest on what caches are thought to hold; below 1: what "
        "engines find is something else.",
        "cluster",
    ),
    gauge(
        "cache_mirror_error",
        "Mean difference of cached tokens expected and found, as a share of the prompt.",
        "cluster",
    ),
    gauge(
        "cache_mirror_capacity_tokens",
        "Tokens that one endpoint's cache is thought to hold, learned from answers.",
        "cluster",
    ),
    gauge(
        "kv_events_in_step",
        "1 while nothing is missing of the KV events that an engine publishes; 0: what it holds is "
        "estimated.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "kv_events_whole",
        "1 while all blocks of an engine are known; 0: those from before a loss are not.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "kv_event_blocks",
        "Blocks that an engine holds, as far as its KV events tell.",
        *("cluster", "endpoint"),
    ),
    gauge(
        "kv_event_names",
        "Beginnings of prompts whose blocks at an engine are known.",
        *("cluster", "endpoint"),
    ),
    counter("kv_event_batches_total", "Batches of KV events.", "cluster", "endpoint"),
    counter(
        "kv_event_incidents_total",
        "What befell KV events: gap (batches missing), replay (asked for), lost (not to be had, so "
        "that the picture began anew) or restart (the engine started anew).",
        *("cluster", "endpoint", "kind"),
    ),
    counter(
        "kv_event_refused_total",
        "What there was no room for: a block of an engine, or a name of a prompt's beginning.",
        *("cluster", "endpoint", "kind"),
    ),
    counter(
        "kv_event_tips_total",
        "Answers that named their prompts' blocks: told to control, kept_back for want of room, or "
        "unheeded because nobody listens to the engine.",
        "result",
    ),
    counter(
        "kv_event_workers_behind_total",
        "Times that a worker fell too far behind what engines tell, and was told all anew.",
    ),
    gauge("prompt_bytes_per_token", "Of prompts, learned from answers' usage.", "cluster"),
    counter(
        "cache_mirror_shed_total",
        "Pairs of a prompt's beginning and an endpoint forgotten because max_entries was reached.",
        "cluster",
    ),
    counter(
        "cache_mirror_compared_tokens_total",
        "Tokens of prompts whose answers said how many of them were cached.",
        "cluster",
    ),
    counter(
        "cache_mirror_expected_tokens_total",
        "Tokens of those prompts that were expected to be cached.",
        "cluster",
    ),
    counter(
        "cache_mirror_found_tokens_total",
        "Tokens of those prompts that were cached.",
        "cluster",
    ),
    counter(
        "first_token_predicted_seconds_total",
        "Seconds to the first token that streams were expected to take, added up.",
        "cluster",
    ),
    counter(
        "first_token_observed_seconds_total",
        "Seconds to the first token that the same streams took, added up.",
        "cluster",
    ),
    counter(
        "first_token_error_seconds_total",
        "Seconds by which each of those predictions was wrong, added up.",
        "cluster",
    ),
    gauge(
        "gossip_peers",
        "Other routers' processes that a worker hears of, those of its own machine among them.",
    ),
    gauge(
        "gossip_requests_under_way",
        "Requests of others under way, over all workers that know of them.",
    ),
    counter(
        "gossip_requests_total",
        "Requests that workers told each other of: told, heard, unknown (to endpoints that are not "
        "known here) or expired (nobody said that they ended).",
        "result",
    ),
    counter(
        "gossip_notes_total",
        "What workers tell each other: sent, heard, or kept_back for want of room.",
        "result",
    ),
    counter(
        "gossip_datagrams_lost_total",
        "Datagrams that were of no use: full (the reader had no room), missing (by their numbers), "
        "late (or twice), unreadable, or too_many_peers.",
        "reason",
    ),
    gauge(
        "gossip_redis_reached",
        "1 while other machines hear of this one's requests, and it of theirs, through Redis.",
    ),
    counter(
        "gossip_relayed_total",
        "Datagrams sent to other machines, and heard from them.",
        "result",
    ),
    counter(
        "gossip_relay_lost_total",
        "Datagrams lost between machines, by reason: unreached (Redis), overflow, unreadable or "
        "worker_full.",
        "reason",
    ),
)
