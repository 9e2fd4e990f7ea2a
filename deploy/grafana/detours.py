"""Charts of what routes do beside passing requests on: mirrors, fallbacks, faults."""

from deploy.grafana.panel import Panel, rate

DETOURS = (
    Panel(
        "Mirrored requests",
        "reqps",
        {
            "{{cluster}} {{outcome}}": rate("warmpath_mirrored_requests_total", "cluster, outcome"),
            "{{cluster}} not sent: {{reason}}": rate(
                "warmpath_mirrors_skipped_total", "cluster, reason"
            ),
            "{{cluster}} under way": "sum by (cluster) (warmpath_mirrors_in_flight)",
            "{{cluster}} tokens": rate("warmpath_mirrored_tokens_total", "cluster"),
        },
        "Copies per second, and the tokens per second that they came to.",
        width=12,
    ),
    Panel(
        "Fallbacks",
        "reqps",
        {
            "{{route}}: {{cluster}} to {{fallback}}, {{reason}}": rate(
                "warmpath_fallbacks_total", "route, cluster, fallback, reason"
            )
        },
        "Requests that another cluster took because theirs could not.",
        width=12,
    ),
    Panel(
        "Injected faults",
        "reqps",
        {
            "{{fault}} {{route}}": rate("warmpath_faults_injected_total", "route, fault", ""),
            "left out {{route}}": rate("warmpath_faults_overflow_total", "route", ""),
            "held {{route}}": "sum by (route) (warmpath_faults_active)",
        },
        "Delays, aborts, cuts and stalls that routes make on purpose.",
        width=12,
    ),
)
