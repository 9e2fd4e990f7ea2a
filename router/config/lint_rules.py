"""Every lint rule, one line of code each besides its words. The reference is made from this.

A code never changes its meaning, and one that is given up is not used again.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec

from router.config import lint_access as access
from router.config import lint_actions as actions
from router.config import lint_balancers as balancers
from router.config import lint_clusters as clusters
from router.config import lint_detours as detours
from router.config import lint_limits as limits
from router.config import lint_patterns as patterns
from router.config import lint_places as places
from router.config import lint_process as process
from router.config import lint_queue as queue
from router.config import lint_retry as retry
from router.config import lint_routes as routes
from router.config.findings import Problem
from router.config.schema import Config

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Rule(msgspec.Struct, frozen=True):
    """One rule. ``title``: what is found; ``fix``: what to do about it, in one line."""

    code: str
    severity: Severity
    title: str
    fix: str
    check: Callable[[Config], Iterator[Problem]]


RULES: tuple[Rule, ...] = (
    Rule("WP001", "warning", "route shadowed by an earlier one",
         "Move the narrower route in front, or remove it.", routes.shadowed),
    Rule("WP002", "error", "route that can never match",
         "Write the condition as a request can meet it.", routes.never_matches),
    Rule("WP003", "warning", "catch-all route that is not the last",
         "Move the route without a match to the end.", routes.catch_all_before_others),
    Rule("WP004", "warning", "cluster that no route goes to",
         "Add a route to it, or remove it: it is probed and scraped for nothing.",
         clusters.unused_cluster),
    Rule("WP005", "info", "subset with one endpoint",
         "Give a second endpoint the same labels, if requests must not fail with the first.",
         routes.subset_of_one),
    Rule("WP006", "warning", "error answers retried with one endpoint",
         "Add an endpoint, or retry on connect-failure and reset alone.",
         routes.status_retry_with_one_endpoint),
    Rule("WP007", "warning", "per_try_timeout as long as the total",
         "Shorten retry.per_try_timeout or lengthen timeouts.total.", routes.per_try_beyond_total),
    Rule("WP008", "info", "first_byte as long as the total",
         "Set retry.per_try_timeout, or first_byte below the total.",
         routes.first_byte_beyond_total),
    Rule("WP009", "info", "weight of a single destination",
         "Remove the weight, or add the other destination.", routes.weight_of_one_arm),
    Rule("WP010", "warning", "destination named twice",
         "Write it once, with the sum of the weights.", routes.arm_twice),
    Rule("WP011", "warning", "one unhealthy endpoint is panic",
         "Lower health.panic_threshold, or add endpoints.", clusters.one_failure_is_panic),
    Rule("WP012", "info", "first byte due sooner than a long answer",
         "Allow 30s or more, or keep the route to embeddings and other short work.",
         routes.short_first_byte),
    Rule("WP013", "warning", "few places and no queue",
         "Let some wait (circuit_breaker.max_pending), or raise max_connections.",
         clusters.no_queue),
    Rule("WP014", "warning", "max_requests below max_connections",
         "Raise max_requests above max_connections.", clusters.places_never_reached),
    Rule("WP015", "warning", "admin API reachable from elsewhere",
         "Bind it to 127.0.0.1; to scrape, set metrics.address instead.",
         process.admin_in_the_open),
    Rule("WP016", "warning", "expose_decision on a public listener",
         "Switch it off, or listen on loopback.", process.decision_in_the_open),
    Rule("WP017", "warning", "interval shorter than the timeout",
         "Shorten the timeout or lengthen the interval.", clusters.interval_below_timeout),
    Rule("WP018", "warning", "streams without a limit",
         "Set timeouts.idle (or total): engines hang without closing.", routes.endless_stream),
    Rule("WP019", "warning", "first byte without a limit",
         "Set timeouts.first_byte, timeouts.total or retry.per_try_timeout.", routes.endless_wait),
    Rule("WP020", "warning", "endpoint in two clusters",
         "Use one cluster, with labels and subsets.", clusters.shared_endpoint),
    Rule("WP021", "warning", "no log, no metrics, no admin API",
         "Leave at least one of access_log, metrics and admin on.", process.nobody_is_told),
    Rule("WP022", "info", "label that no route selects by",
         "Use it in a subset, or keep it as a note for people.", clusters.unused_labels),
    Rule("WP023", "info", "no health checks",
         "Set health.active: any path that answers 200 will do.", clusters.no_health_check),
    Rule("WP024", "warning", "declared model without a route",
         "Add a route for it, or take it off the cluster's models.",
         clusters.model_without_a_route),
    Rule("WP025", "info", "rate limits by the client's own word",
         "Add a limit per address, or one for the whole route.",
         limits.limit_by_the_clients_word),
    Rule("WP026", "warning", "client errors retried",
         "Retry on 5xx, 429 and failures of the connection.", routes.retried_client_errors),
    Rule("WP027", "warning", "max_buffered below buffer_body",
         "Raise limits.max_buffered or lower limits.buffer_body.", process.buffer_beyond_bound),
    Rule("WP028", "warning", "clients without a time limit",
         "Set limits.timeouts.head and body.", process.endless_clients),
    Rule("WP029", "info", "retry cause of another protocol",
         "Remove it, unless the list is shared with Envoy or Istio.",
         retry.cause_of_another_protocol),
    Rule("WP030", "warning", "back-off as long as the total",
         "Shorten retry.back_off.base_interval or lengthen timeouts.total.",
         retry.wait_beyond_total),
    Rule("WP040", "warning", "fault that hits every request",
         "Lower its percent, or give headers that only tests send.", detours.fault_for_everybody),
    Rule("WP041", "warning", "priorities, and nobody who notices a failure",
         "Leave health.active or health.outlier on.", places.nobody_notices_a_failure),
    Rule("WP042", "warning", "endpoint in a place without a weight",
         "Give its place a weight, or a wider place that holds it.",
         places.endpoint_without_a_weight),
    Rule("WP043", "warning", "region that stands in and is empty",
         "Name a region that endpoints are in.", places.nobody_in_the_region),
    Rule("WP044", "warning", "one session cookie for two clusters",
         "Give each cluster's session a name of its own.", places.one_cookie_for_two_clusters),
    Rule("WP045", "warning", "hedging with one endpoint",
         "Add an endpoint, or remove the hedge: the second attempt needs another one.",
         retry.hedge_with_one_endpoint),
    Rule("WP046", "warning", "hedge after the first byte is due",
         "Shorten hedge.after, or lengthen first_byte or retry.per_try_timeout.",
         retry.hedge_too_late),
    Rule("WP050", "warning", "token limit smaller than an answer",
         "Raise burst, or lower token_estimates.output to what answers come to.",
         limits.smaller_than_an_answer),
    Rule("WP051", "warning", "every router allows the whole limit without Redis",
         "Set redis.machines to the number of routers, or choose another on_failure.",
         limits.whole_limit_without_redis),
    Rule("WP052", "info", "redis that nothing uses",
         "Give a limit scope: global, balance by predicted_ttft, or remove the section.",
         limits.redis_for_nothing),
    Rule("WP060", "error", "alias of a model that no route takes",
         "Correct the name, or add a route for the model.", actions.alias_without_a_route),
    Rule("WP061", "warning", "alias that hides a model",
         "Give the alias another name, or remove what names the model.", actions.alias_of_a_model),
    Rule("WP062", "warning", "engines told a model that they do not list",
         "Correct the name, or add it to the cluster's models.", actions.model_that_nobody_serves),
    Rule("WP063", "warning", "redirect that loses the body",
         "Use status 307 or 308, or match GET alone.", actions.redirect_without_the_body),
    Rule("WP064", "warning", "every web page may call with cookies",
         "Name the origins, or leave allow_credentials out.", actions.credentials_for_every_page),
    Rule("WP065", "info", "fraction of all or none",
         "Remove the fraction, or the route.", actions.fraction_of_all_or_none),
    Rule("WP066", "warning", "size that no request has",
         "Put the narrower size in front, or remove it.", actions.size_never_reached),
    Rule("WP067", "warning", "regular expression that may take for ever",
         "Make rounds of it begin with what cannot be within one, or use a prefix or suffix.",
         patterns.runaway_pattern),
    Rule("WP070", "warning", "keys in the clear",
         "Give the listener tls, or bind it where only a proxy with TLS reaches it.",
         access.keys_in_the_clear),
    Rule("WP071", "warning", "open listener beside tenants",
         "Ask for keys there, say who may connect (allow), or bind it to loopback.",
         access.open_beside_tenants),
    Rule("WP072", "warning", "tenant that nobody can be",
         "Give it a key or a certificate, or remove it.", access.tenant_without_a_credential),
    Rule("WP073", "warning", "short key",
         "Make keys by chance: openssl rand -hex 32.", access.short_key),
    Rule("WP074", "warning", "engines that are not verified",
         "Name their authority (tls.ca), and a server_name where the host is none.",
         access.engines_not_verified),
    Rule("WP075", "info", "credential of engines in the clear",
         "Give the cluster tls, or keep the network between to yourself.",
         access.credential_in_the_clear),
    Rule("WP076", "warning", "token issuer's keys in the clear",
         "Fetch them with https, or from a file.", access.key_set_in_the_clear),
    Rule("WP081", "warning", "fallback to where the request comes from",
         "Name another cluster, another subset or another model.", detours.fallback_to_the_same),
    Rule("WP082", "warning", "mirror without a bound",
         "Set max_tokens_per_minute, or lower its percent.", detours.mirror_without_a_bound),
    Rule("WP085", "info", "queue shared by the client's own word",
         "Put tenant or address in front, or a header that your own proxy sets.",
         queue.shares_by_the_clients_word),
    Rule("WP086", "warning", "comments that nobody gets",
         "Shorten queue.comments, or lengthen timeouts.queue.", queue.comments_that_nobody_gets),
    Rule("WP090", "warning", "affinity that never yields to load",
         "Lower balance_abs_threshold below what an endpoint may have in flight.",
         balancers.affinity_that_never_yields),
    Rule("WP091", "warning", "prompts without a match flood a new endpoint",
         "Leave out fallback, or set it to least_loaded.", balancers.smallest_tree),
    Rule("WP092", "warning", "load that is known too late",
         "Add the scorer token_load or in_flight, or set scrape.interval to 100ms.",
         balancers.load_known_too_late),
    Rule("WP093", "warning", "prompts that each worker remembers for itself",
         "Set workers: 1, or use predicted_ttft, whose workers tell each other.",
         balancers.each_worker_for_itself),
)  # fmt: skip
"""By code. To add a rule: a function in one of the three modules, and one line here."""
