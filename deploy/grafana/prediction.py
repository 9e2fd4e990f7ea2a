"""What predicted-TTFT balancing expects of endpoints, and how it turns out."""

from deploy.grafana.panel import PICK, Panel, rate

PREDICTION = (
    Panel(
        "Prompts in line",
        "s",
        {"{{endpoint}}": f"warmpath_endpoint_prefill_queue_seconds{{{PICK}}}"},
        "Predicted seconds until a new prompt would be begun.",
    ),
    Panel(
        "Pace",
        "short",
        {"{{endpoint}}": f"warmpath_endpoint_pace{{{PICK}}}"},
        "Observed over predicted prefill: endpoints that differ are of different speed.",
    ),
    Panel(
        "Prefixes held",
        "short",
        {
            "{{endpoint}}": f"warmpath_endpoint_cached_prefixes{{{PICK}}}",
            "sure {{endpoint}}": f"warmpath_endpoint_sure_prefixes{{{PICK}}}",
        },
        "Beginnings of prompts that each cache is thought to hold; sure: told by KV events.",
    ),
    Panel(
        "KV events in step",
        "short",
        {
            "{{endpoint}}": f"warmpath_kv_events_in_step{{{PICK}}}",
            "whole {{endpoint}}": f"warmpath_kv_events_whole{{{PICK}}}",
        },
        "0: what the engine holds is estimated. Whole: all its blocks are known.",
        kind="state-timeline",
    ),
    Panel(
        "Blocks known by KV events",
        "short",
        {
            "blocks {{endpoint}}": f"warmpath_kv_event_blocks{{{PICK}}}",
            "names {{endpoint}}": f"warmpath_kv_event_names{{{PICK}}}",
            "no room {{endpoint}} {{kind}}": rate(
                "warmpath_kv_event_refused_total", "endpoint, kind"
            ),
        },
        "Names: beginnings of prompts that are tied to blocks.",
    ),
    Panel(
        "KV events",
        "short",
        {
            "batches {{endpoint}}": rate("warmpath_kv_event_batches_total", "endpoint"),
            "{{kind}} {{endpoint}}": rate("warmpath_kv_event_incidents_total", "endpoint, kind"),
            "answers {{result}}": rate("warmpath_kv_event_tips_total", "result", ""),
            "workers behind": rate("warmpath_kv_event_workers_behind_total", "instance", ""),
        },
        "Per second. Answers: that named the blocks of their prompts.",
    ),
    Panel(
        "Cached tokens, expected and found",
        "percentunit",
        {
            "expected {{cluster}}": rate("warmpath_cache_mirror_expected_tokens_total", "cluster")
            + " / "
            + rate("warmpath_cache_mirror_compared_tokens_total", "cluster"),
            "found {{cluster}}": rate("warmpath_cache_mirror_found_tokens_total", "cluster")
            + " / "
            + rate("warmpath_cache_mirror_compared_tokens_total", "cluster"),
        },
        "Of prompts whose answers tell. Found below expected: caches are smaller than thought, or"
        " filled by others.",
    ),
    Panel(
        "Error of expected cached tokens",
        "percentunit",
        {"{{cluster}}": f"warmpath_cache_mirror_error{{{PICK}}}"},
        "From a quarter on, picks rest on least work alone.",
    ),
    Panel(
        "Mirror believed",
        "percentunit",
        {"{{cluster}}": f"warmpath_cache_mirror_believed{{{PICK}}}"},
        "Share of workers.",
        kind="state-timeline",
    ),
    Panel(
        "Time to first token, predicted and observed",
        "s",
        {
            f"{word} {{{{cluster}}}}": rate(f"warmpath_first_token_{word}_seconds_total", "cluster")
            + " / "
            + rate("warmpath_endpoint_first_bytes_total", "cluster")
            for word in ("predicted", "observed", "error")
        },
        "Means over streams, from the attempt; error: by how much the predictions missed.",
    ),
    Panel(
        "Capacity of one cache",
        "short",
        {
            "tokens {{cluster}}": f"warmpath_cache_mirror_capacity_tokens{{{PICK}}}",
            "pairs shed {{cluster}}": rate("warmpath_cache_mirror_shed_total", "cluster"),
        },
        "As learned from answers. Shed: max_entries is too small.",
    ),
    Panel(
        "Bytes per token of prompts",
        "short",
        {"{{cluster}}": f"warmpath_prompt_bytes_per_token{{{PICK}}}"},
    ),
    Panel(
        "Requests told of",
        "reqps",
        {"{{result}}": rate("warmpath_gossip_requests_total", "result", "")},
        "Between workers and routers. Expired: their ends were lost.",
    ),
    Panel(
        "Gossip",
        "short",
        {
            "notes {{result}}": rate("warmpath_gossip_notes_total", "result", ""),
            "datagrams lost: {{reason}}": rate(
                "warmpath_gossip_datagrams_lost_total", "reason", ""
            ),
        },
        "Per second. What is lost makes predictions worse for some seconds.",
    ),
    Panel(
        "Gossip with other machines",
        "short",
        {
            "{{result}}": rate("warmpath_gossip_relayed_total", "result", ""),
            "lost: {{reason}}": rate("warmpath_gossip_relay_lost_total", "reason", ""),
        },
        "Datagrams a second through Redis.",
    ),
    Panel(
        "Peers",
        "short",
        {
            "heard of by a worker {{instance}}": "warmpath_gossip_peers",
            "their requests under way {{instance}}": "warmpath_gossip_requests_under_way",
        },
    ),
)
