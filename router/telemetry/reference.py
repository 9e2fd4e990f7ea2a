"""``docs/metrics.md``, written from the catalogue: ``python -m router.telemetry.reference``."""

import sys

from router.telemetry.metric import Metric
from router.telemetry.metrics import CATALOGUE

_INTRODUCTION = """\
# Metrics

`GET /metrics` on the admin port, and on `metrics.address` where that is configured. This page is
written by `python -m router.telemetry.reference`; a test compares it with the catalogue.

Counters and histograms are summed over all worker processes and never go back when a worker is
replaced (what it counted in its last half second is lost if it is killed). Labels hold only names
from the configuration, the models that the engines list, and fixed sets: `code` is an HTTP status,
`flag` an Envoy response flag (`-` for none). Models that nobody lists are counted as `other`.

| metric | type | labels | |
|---|---|---|---|
"""


def reference() -> str:
    """The page as Markdown."""
    buckets = [_buckets(metric) for metric in CATALOGUE if metric.buckets]
    rows = "".join(_row(metric) for metric in CATALOGUE)
    return _INTRODUCTION + rows + "\n## Buckets\n\nUpper bounds, in seconds.\n\n" + "".join(buckets)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |\n"


def _buckets(metric: Metric) -> str:
    return f"- `{metric.full_name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
