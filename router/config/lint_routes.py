"""Lint rules about routes: which can be reached, and what their limits come to together."""

import fnmatch
from collections.abc import Iterator

from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.findings import Path, Problem
from router.config.matches import Match, StringCondition
from router.config.routes import DestinationSpec, RouteSpec
from router.config.schema import Config

OWN_PATHS = ("/health", "/v1/models")
"""Answered by the router itself; no route ever sees a request for them."""

LONG_ANSWER = 30.0
"""Seconds that an answer of some hundred tokens, or a long prompt's prefill, takes with ease."""

NO_ANSWER = frozenset(
    {"connect-failure", "reset", "reset-before-request", "refused-stream"}
    | {"http3-post-connect-failure"}
)
"""Causes of retries that are no answers."""

TRANSIENT = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may differ when the same request is sent again."""


def shadowed(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for earlier in config.routes[:index]:
            if earlier.match != Match() and _covers(earlier.match, route.match):
                yield Problem(
                    ("routes", index),
                    f"route {route.name!r} is never reached: {earlier.name!r} takes all that it "
                    "would match",
                )
                break


def catch_all_before_others(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes[:-1]):
        if route.match == Match():
            yield Problem(
                ("routes", index),
                f"route {route.name!r} matches everything, so the routes after it are never "
                "reached",
            )
            return


def never_matches(config: Config) -> Iterator[Problem]:
    adapters = [name for cluster in config.clusters for name in cluster.adapters]
    for index, route in enumerate(config.routes):
        here: Path = ("routes", index, "match")
        if (path := route.match.path) is not None and (reason := _impossible_path(path)):
            yield Problem((*here, "path"), f"route {route.name!r} never matches: {reason}")
        if (asked := route.match.adapter) is not None and asked.present is not False:
            name = asked.name or "*"
            if not any(fnmatch.fnmatchcase(known, name) for known in adapters):
                yield Problem(
                    (*here, "adapter"),
                    f"route {route.name!r} never matches: no cluster declares such an adapter",
                )
        for name, condition in route.match.headers.items():
            ours = name.lower().startswith(("x-warmpath-", "x-gateway-"))
            if ours and not condition.invert and condition.present is not False:
                yield Problem(
                    (*here, "headers", name),
                    f"route {route.name!r} never matches: {name} is removed from what clients send",
                )


def _impossible_path(path: StringCondition) -> str | None:
    if path.invert:
        return None
    start = path.exact if path.exact is not None else path.prefix
    if start is not None and not start.startswith("/"):
        return f"no path begins with {start[:40]!r}"
    texts = (path.exact, path.prefix, path.suffix, path.contains)
    if any(text is not None and "?" in text for text in texts):
        return "a path is compared without its query"
    if path.exact in OWN_PATHS:
        return f"the router answers {path.exact} itself"
    return None


def status_retry_with_one_endpoint(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        if route.retry is None or not route.retry.attempts or not route.to:
            continue
        if set(route.retry.on) <= NO_ANSWER:
            continue  # the endpoint may be back after a restart
        pools = [endpoints_of(arm, config) for arm in route.to]
        if all(pool is not None and len(pool) == 1 for pool in pools):
            yield Problem(
                ("routes", index, "retry"),
                f"route {route.name!r} retries error answers, but has one endpoint to ask",
            )


def per_try_beyond_total(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        total = route.timeouts.total
        if route.retry is not None and 0 < total <= route.retry.per_try_timeout:
            yield Problem(
                ("routes", index, "retry", "per_try_timeout"),
                f"per_try_timeout {route.retry.per_try_timeout} leaves no time for a retry within "
                f"the total of {total}",
            )


def first_byte_beyond_total(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        timeouts = route.timeouts
        if 0 < timeouts.total <= timeouts.first_byte and not _per_try(route):
            yield Problem(
                ("routes", index, "timeouts", "total"),
                f"the total of {timeouts.total} ends a request before first_byte "
                f"({timeouts.first_byte}) can, so that a slow endpoint is never retried elsewhere",
            )


def short_first_byte(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        limit = _per_try(route) or float(route.timeouts.first_byte)
        if 0 < limit < LONG_ANSWER and _takes_generation(route.match):
            yield Problem(
                ("routes", index),
                f"the first byte of route {route.name!r} is due after {limit:g}s, but an answer "
                "that is not streamed has its first byte when it is complete",
            )


def endless_stream(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        if not route.timeouts.idle and not route.timeouts.total:
            yield Problem(
                ("routes", index, "timeouts", "idle"),
                f"a stream of route {route.name!r} that falls silent is kept forever",
            )


def endless_wait(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        timeouts = route.timeouts
        if not timeouts.first_byte and not timeouts.total and not _per_try(route):
            yield Problem(
                ("routes", index, "timeouts", "first_byte"),
                f"a request of route {route.name!r} waits forever for an endpoint that hangs",
            )


def weight_of_one_arm(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        if len(route.to) == 1 and route.to[0].weight != 1:
            yield Problem(
                ("routes", index, "to", 0, "weight"),
                f"the weight of the only destination of route {route.name!r} means nothing",
            )


def arm_twice(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for number, arm in enumerate(route.to):
            if any((arm.cluster, arm.subset) == (o.cluster, o.subset) for o in route.to[:number]):
                yield Problem(
                    ("routes", index, "to", number),
                    f"route {route.name!r} names this destination twice: its weights add up",
                )


def subset_of_one(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for number, arm in enumerate(route.to):
            pool = endpoints_of(arm, config)
            if arm.subset and pool is not None and len(pool) == 1:
                yield Problem(
                    ("routes", index, "to", number, "subset"),
                    f"the subset has one endpoint, {pool[0].address}: without it, all of its "
                    "requests fail",
                )


def retried_client_errors(config: Config) -> Iterator[Problem]:
    for index, route in enumerate(config.routes):
        for number, cause in enumerate(route.retry.on if route.retry is not None else ()):
            if isinstance(cause, int) and cause < 500 and cause not in TRANSIENT:
                yield Problem(
                    ("routes", index, "retry", "on", number),
                    f"status {cause} is no fault of the endpoint: another one answers the same",
                )


def _per_try(route: RouteSpec) -> float:
    return 0.0 if route.retry is None else float(route.retry.per_try_timeout)


def endpoints_of(arm: DestinationSpec, config: Config) -> list[EndpointSpec] | None:
    """What is written of a destination's endpoints; None where they are discovered."""
    cluster: ClusterSpec | None = next((c for c in config.clusters if c.name == arm.cluster), None)
    if cluster is None or cluster.discovery is not None:
        return None
    return [
        endpoint
        for endpoint in cluster.endpoints
        if all(endpoint.labels.get(name) == value for name, value in arm.subset.items())
    ]


def _takes_generation(match: Match) -> bool:
    """Whether a request for generated text may come this way."""
    path = match.path
    if path is None or path.invert or path.regex is not None:
        return path is None
    wanted = path.exact or path.prefix or path.suffix or path.contains or ""
    return any(wanted in full for full in ("/v1/chat/completions", "/v1/responses", "/v1/messages"))


# --- does one match take all that another takes? ----------------------------------------------


def _covers(wide: Match, narrow: Match) -> bool:
    """Certainly so; a no may be an "I cannot tell" (two regular expressions)."""
    if wide.fraction is not None:
        return False  # the rest of them goes on, even to a route with the same fraction
    others = set(Match.__struct_fields__) - {"methods", "model", "host", "path", "headers"}
    if any(
        getattr(wide, name) not in (getattr(Match(), name), getattr(narrow, name))
        for name in others
    ):
        return False
    if wide.methods and not (narrow.methods and set(narrow.methods) <= set(wide.methods)):
        return False
    if not _glob_covers(wide.model, narrow.model) or not _glob_covers(wide.host, narrow.host):
        return False
    if wide.path is not None and not _implied(wide.path, narrow.path):
        return False
    headers = {name.lower(): condition for name, condition in narrow.headers.items()}
    return all(
        _implied(condition, headers.get(name.lower())) for name, condition in wide.headers.items()
    )


def _glob_covers(wide: str | None, narrow: str | None) -> bool:
    if wide is None or wide == narrow:
        return True
    if narrow is None:
        return False
    if wide == "*":
        return True
    if any(char in narrow for char in "*?["):
        return False
    return fnmatch.fnmatchcase(narrow, wide)


def _implied(wide: StringCondition, narrow: StringCondition | None) -> bool:
    if narrow is None or wide == narrow:
        return narrow is not None
    odd = wide.ignore_case or narrow.ignore_case or wide.range or narrow.range
    if wide.invert or narrow.invert or odd:
        return False
    if wide.present:
        return narrow.present is not False
    if wide.present is False or narrow.present is not None:
        return False
    exact, begin = narrow.exact, narrow.exact or narrow.prefix
    if wide.prefix is not None:
        return begin is not None and begin.startswith(wide.prefix)
    if wide.suffix is not None:
        end = exact or narrow.suffix
        return end is not None and end.endswith(wide.suffix)
    if wide.contains is not None:
        texts = (exact, narrow.prefix, narrow.suffix, narrow.contains)
        return any(text is not None and wide.contains in text for text in texts)
    return False
