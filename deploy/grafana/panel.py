"""One chart of a dashboard, and the queries that many of them share."""

from dataclasses import dataclass

PICK = 'cluster=~"$cluster"'


@dataclass(frozen=True)
class Panel:
    """One chart. ``queries``: legend -> PromQL. ``width`` in 24ths of the page."""

    title: str
    unit: str
    queries: dict[str, str]
    text: str = ""
    width: int = 8
    kind: str = "timeseries"
    stacked: bool = False


def quantiles(metric: str, by: str = "cluster") -> dict[str, str]:
    rate = f"sum by ({by}, le) (rate({metric}_bucket{{{PICK}}}[$__rate_interval]))"
    return {
        f"p{round(100 * q)} {{{{{by}}}}}": f"histogram_quantile({q}, {rate})"
        for q in (0.5, 0.95, 0.99)
    }


def rate(metric: str, by: str, selector: str = PICK) -> str:
    return f"sum by ({by}) (rate({metric}{{{selector}}}[$__rate_interval]))"
