"""An Envoy scenario's clusters and routes as a configuration of ours.

A route that uses what we do not have is left out: its requests then end differently, and that
difference is on the list.
"""

from typing import Any

LB = {
    "ROUND_ROBIN": "round_robin",
    "LEAST_REQUEST": "least_request",
    "RANDOM": "random",
    "RING_HASH": "ring_hash",
    "MAGLEV": "maglev",
}
LOCAL_LIMIT = "envoy.filters.http.local_ratelimit"
FAULT = "envoy.filters.http.fault"
MATCH_KEYS = {"prefix", "path", "safe_regex", "path_separated_prefix", "headers"}
MATCH_KEYS |= {"query_parameters", "runtime_fraction"}
ACTION_KEYS = {"cluster", "weighted_clusters", "timeout", "idle_timeout", "retry_policy"}
ACTION_KEYS |= {
    "request_mirror_policies",
    "max_stream_duration",
    "hash_policy",
    "rate_limits",
    "hedge_policy",
}
ACTION_KEYS |= {"prefix_rewrite", "host_rewrite_literal", "regex_rewrite"}
ROUTE_KEYS = {"name", "match", "route", "redirect", "direct_response"}
ROUTE_KEYS |= {"request_headers_to_add", "request_headers_to_remove"}
REDIRECT = {"path_redirect": "path", "response_code": "status"}
CODES = {"MOVED_PERMANENTLY": 301, "FOUND": 302}
APPEND = {
    "APPEND_IF_EXISTS_OR_ADD": "add",
    "OVERWRITE_IF_EXISTS_OR_ADD": "set",
    "ADD_IF_ABSENT": "add_if_absent",
}
RETRY_KEYS = {"retry_on", "num_retries", "per_try_timeout", "retry_back_off"}
RETRY_KEYS |= {"per_try_idle_timeout"}
RETRY_KEYS |= {"retriable_status_codes", "retriable_headers"}


class NotOurs(Exception):
    """The scenario asks for something that we do not have."""


def translate(envoy: dict[str, Any], ports: dict[str, int]) -> tuple[dict[str, Any], list[str]]:
    """Our configuration as plain data, and the names of the routes that were left out."""
    clusters = {spec["name"]: spec for spec in envoy["clusters"]}
    routes: list[dict[str, Any]] = []
    left_out = []
    for index, route in enumerate(envoy["routes"]):
        name = route.get("name", f"r{index}")
        try:
            routes.append(_limited(name, route, clusters))
        except NotOurs:
            left_out.append(name)
    head_timeout = envoy.get("hcm", {}).get("request_headers_timeout", "15s")
    clusters = _used(clusters, routes)
    config = {
        "version": 1,
        "limits": {"max_head": "60KiB", "timeouts": {"head": head_timeout}},
        "clusters": [_cluster(spec, ports) for spec in clusters.values()],
        "routes": routes,
    }
    return config, left_out


def _used(
    clusters: dict[str, dict[str, Any]], routes: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Those with a balancer that needs no key, or that were given one."""
    wanted = {arm["cluster"] for route in routes for arm in route.get("to", ())}
    return {
        name: spec
        for name, spec in clusters.items()
        if name in wanted or spec.get("lb_policy") not in {"RING_HASH", "MAGLEV"}
    }


def _cluster(spec: dict[str, Any], ports: dict[str, int]) -> dict[str, Any]:
    endpoints = []
    for endpoint in spec["endpoints"]:
        fields = {"backend": endpoint} if isinstance(endpoint, str) else endpoint
        address = f"127.0.0.1:{ports[fields['backend']]}"
        endpoints.append({"address": address, "weight": fields.get("weight", 1)})
    balancer = {"type": LB[spec.get("lb_policy", "ROUND_ROBIN")]}
    if "load_balancing_policy" in spec:  # the only one in these scenarios
        balancer = {"type": "least_request", "selection": "full_scan"}
    limits = _thresholds(spec)
    breaker = {
        ours: limits[theirs]
        for theirs, ours in (
            ("max_connections", "max_connections"),
            ("max_pending_requests", "max_pending"),
            ("max_requests", "max_requests"),
        )
        if theirs in limits
    }
    if per_host := spec.get("circuit_breakers", {}).get("per_host_thresholds"):
        breaker["per_endpoint"] = {"max_connections": per_host[0]["max_connections"]}
    if "retry_budget" not in limits:  # Envoy then bounds them by number
        breaker["max_retries"] = limits.get("max_retries", 3)
    panic = spec.get("common_lb_config", {}).get("healthy_panic_threshold", {}).get("value", 50)
    return {
        "name": spec["name"],
        "endpoints": endpoints,
        "balancer": balancer | spec.get("hash", {}),
        "circuit_breaker": breaker,
        "health": {
            "active": _checks(spec.get("health_checks", [])),
            "outlier": _outlier(spec.get("outlier_detection")),
            "panic_threshold": f"{panic}%",
        },
        "session": spec.get("session", "off"),
        "scrape": "off",
    }


def _checks(checks: list[dict[str, Any]]) -> dict[str, Any] | str:
    if not checks:
        return "off"
    [check] = checks
    return {
        "interval": check["interval"],
        "timeout": check["timeout"],
        "fall": check["unhealthy_threshold"],
        "rise": check["healthy_threshold"],
        "expected": [200, 599],  # whatever it answers, as for a check that only connects
    }


def _outlier(spec: dict[str, Any] | None) -> dict[str, Any] | str:
    """Envoy's names, and its defaults where ours differ."""
    if spec is None:
        return "off"
    fields = {"always_eject_one_host": False, "max_ejection_percent": 10} | spec
    uneject = fields.pop("successful_active_health_check_uneject_host", True)
    return fields | {"successful_active_health_check_uneject": uneject}


def _thresholds(spec: dict[str, Any]) -> dict[str, Any]:
    [limits] = spec.get("circuit_breakers", {}).get("thresholds", [{}])
    return dict(limits)


def _limited(
    name: str, route: dict[str, Any], clusters: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """One route with its rate limits."""
    plain = {key: value for key, value in route.items() if key != "typed_per_filter_config"}
    filters = dict(route.get("typed_per_filter_config", {}))
    limit = filters.pop(LOCAL_LIMIT, None)
    fault = _fault(filters.pop(FAULT, {}))
    if filters:
        raise NotOurs(", ".join(filters))
    ours = {"name": name, **_route(plain, clusters), **fault}
    if limit is None:
        return ours
    enforce = limit["filter_enforced"]["default_value"]["numerator"] != 0
    limits: list[dict[str, Any]] = []
    for descriptor in limit.get("descriptors", ()):
        [entry] = descriptor["entries"]
        [rule] = [action for use in plain["route"]["rate_limits"] for action in use["actions"]]
        per = f"header:{rule['request_headers']['header_name']}"
        if "value" in entry:
            per += f"={entry['value']}"
        limits.append(descriptor["token_bucket"] | {"per": per})
    limits.append(limit["token_bucket"])
    return ours | {"limits": [one | {"enforce": enforce} for one in limits]}


def _fault(config: dict[str, Any]) -> dict[str, Any]:
    ours: dict[str, Any] = {}
    if "abort" in config:
        abort = config["abort"]
        percent = abort["percentage"]["numerator"]
        ours["abort"] = {"status": abort["http_status"], "percent": f"{percent}%"}
    if "delay" in config:
        delay = config["delay"]
        percent = delay["percentage"]["numerator"]
        ours["delay"] = {"duration": delay["fixed_delay"], "percent": f"{percent}%"}
    return {"fault": ours} if ours else {}


def _hashed(policies: list[dict[str, Any]], name: str, clusters: dict[str, dict[str, Any]]) -> str:
    """A cluster for each way of hashing: in ours the key belongs to the balancer."""
    keys = []
    session: dict[str, Any] | str = "off"
    for policy in policies:
        if "header" in policy:
            keys.append(f"header:{policy['header']['header_name']}")
        elif "cookie" in policy:
            keys.append(f"cookie:{policy['cookie']['name']}")
            if "ttl" in policy["cookie"]:  # Envoy then makes one up where there is none
                session = {"type": "cookie"} | policy["cookie"]
        else:
            keys.append("source_ip")
    combine = "first" if any(policy.get("terminal") for policy in policies) else "all"
    made = f"{name}-{len(clusters)}"
    hashing = {"key": keys, "combine": combine}
    clusters[made] = clusters[name] | {"name": made, "hash": hashing, "session": session}
    return made


def _route(route: dict[str, Any], clusters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    action = dict(route.get("route", {}))
    extra = set(route) - ROUTE_KEYS | set(action) - ACTION_KEYS
    if extra:
        raise NotOurs(", ".join(sorted(extra)))
    if not action:
        return {"match": _match(route["match"])} | _own_answer(route)
    if "hash_policy" in action:
        action["cluster"] = _hashed(action["hash_policy"], action["cluster"], clusters)
    if "cluster" in action:
        to: list[dict[str, Any]] = [{"cluster": action["cluster"]}]
    else:
        arms = action["weighted_clusters"]["clusters"]
        to = [
            {"cluster": arm["name"], "weight": arm["weight"], "headers": _headers(arm)}
            for arm in arms
        ]
    used = [clusters[arm["cluster"]] for arm in to]
    total = action.get("timeout", "15s")
    if "max_stream_duration" in action:
        total = action["max_stream_duration"]["max_stream_duration"]
    # Envoy's idle time-out also runs before the head; ours has its own name there.
    idle = action.get("idle_timeout", "0s")
    return {
        "match": _match(route["match"]),
        "to": to,
        "rewrite": _rewrite(action),
        "headers": _headers(route),
        "timeouts": {"total": total, "idle": idle, "first_byte": idle},
        "mirror": [_mirror(policy) for policy in action.get("request_mirror_policies", ())],
        "retry": _retry(action.get("retry_policy"), _thresholds(used[0])),
        "hedge": {"on_per_try_timeout": True} if "hedge_policy" in action else None,
    }


def _mirror(policy: dict[str, Any]) -> dict[str, Any]:
    share = policy["runtime_fraction"]["default_value"]["numerator"]
    return {"cluster": policy["cluster"], "percent": f"{share}%"}


def _own_answer(route: dict[str, Any]) -> dict[str, Any]:
    if "direct_response" in route:
        answer = route["direct_response"]
        return {
            "direct_response": {"status": answer["status"], "body": answer["body"]["inline_string"]}
        }
    fields = {REDIRECT[name]: value for name, value in route["redirect"].items()}
    return {"redirect": fields | {"status": CODES[fields.get("status", "MOVED_PERMANENTLY")]}}


def _rewrite(action: dict[str, Any]) -> dict[str, Any]:
    ours = {"prefix": action.get("prefix_rewrite"), "host": action.get("host_rewrite_literal")}
    if "regex_rewrite" in action:
        regex = action["regex_rewrite"]
        ours["regex"] = {
            "pattern": regex["pattern"]["regex"],
            "substitution": regex["substitution"],
        }
    return {name: value for name, value in ours.items() if value is not None}


def _headers(part: dict[str, Any]) -> dict[str, Any]:
    """Of a route or of an arm."""
    ours: dict[str, Any] = {}
    for side in ("request", "response"):
        edits: dict[str, Any] = {"remove": part.get(f"{side}_headers_to_remove", [])}
        for one in part.get(f"{side}_headers_to_add", ()):
            kind = APPEND[one.get("append_action", "APPEND_IF_EXISTS_OR_ADD")]
            edits.setdefault(kind, {})[one["header"]["key"]] = one["header"]["value"]
        ours[side] = edits
    return ours


def _match(match: dict[str, Any]) -> dict[str, Any]:
    if extra := set(match) - MATCH_KEYS:
        raise NotOurs(", ".join(sorted(extra)))
    ours: dict[str, Any] = {}
    if "prefix" in match:
        ours["path"] = {"prefix": match["prefix"]}
    elif "path" in match:
        ours["path"] = match["path"]
    elif "safe_regex" in match:
        ours["path"] = {"regex": match["safe_regex"]["regex"]}
    else:
        ours["path"] = {"regex": match["path_separated_prefix"] + "(/.*)?"}
    headers = {}
    for header in match.get("headers", ()):
        condition = dict(header.get("string_match", {}))
        if "present_match" in header:
            condition["present"] = header["present_match"]
        if "range_match" in header:
            condition["range"] = header["range_match"]
        if not condition:
            raise NotOurs("a kind of header condition")
        headers[header["name"]] = condition | {"invert": header.get("invert_match", False)}
    ours["query"] = {one["name"]: one["string_match"] for one in match.get("query_parameters", ())}
    if "runtime_fraction" in match:
        share = match["runtime_fraction"]["default_value"]
        assert share.get("denominator", "HUNDRED") == "HUNDRED"
        ours["fraction"] = {"percent": f"{share['numerator']}%", "by": "request"}
    return ours | {"headers": headers}


def _retry(policy: dict[str, Any] | None, limits: dict[str, Any]) -> dict[str, Any] | str:
    if policy is None:
        return "off"
    if extra := set(policy) - RETRY_KEYS:
        raise NotOurs(", ".join(sorted(extra)))
    on: list[str | int] = policy["retry_on"].split(",")
    if "retriable-status-codes" in on:
        on += policy["retriable_status_codes"]
    budget = limits.get("retry_budget", {})
    ours = {
        "attempts": policy["num_retries"],
        "on": on,
        "per_try_timeout": policy.get("per_try_timeout", "0s"),
        "per_try_idle_timeout": policy.get("per_try_idle_timeout", "0s"),
        "back_off": {"base_interval": "25ms", **policy.get("retry_back_off", {}), "always": True},
        "budget": f"{budget.get('budget_percent', {}).get('value', 20)}%",
        "min_concurrency": budget.get("min_retry_concurrency", 3),
    }
    if "retriable-headers" in on:
        ours["retriable_headers"] = {
            header["name"]: {"present": header["present_match"]}
            for header in policy["retriable_headers"]
        }
    return ours
