"""Charts of what routes do beside passing requests on: fallbacks and faults."""

from deploy.grafana.panel import Panel, rate

DETOURS = (
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
