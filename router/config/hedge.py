"""The configuration of hedges: second attempts beside one that is slow to begin."""

from typing import Annotated, ClassVar

from router.config.section import Section, doc
from router.config.units import Interval, Percent


class Hedge(Section, frozen=True, kw_only=True):
    """Send a request once more, to another endpoint, when its answer is slow to begin.

    The first whose answer has a first byte wins; the others are given up at once. A plain
    duration stands for `after`.
    """

    shorthand: ClassVar[str | None] = "after"

    after: Annotated[Interval | None, doc("How long an answer may take to its first byte.")] = None
    quantile: Annotated[
        Percent | None,
        doc(
            "Instead, as long as this share of the cluster's answers took lately, and no less than "
            "`after`; once 100 are known."
        ),
    ] = None
    max: Annotated[int, doc("Attempts that may be added to a request.", ge=1, le=8)] = 1
    budget: Annotated[
        Percent, doc("Share of the cluster's active requests that may be added attempts.")
    ] = Percent(5)
    min_concurrency: Annotated[
        int, doc("Added attempts that may always run at one time.", ge=0, le=1_000_000)
    ] = 1
    on_per_try_timeout: Annotated[
        bool,
        doc(
            "When retry.per_try_timeout expires, retry elsewhere but let the attempt go on, too, "
            "as Envoy's hedge_on_per_try_timeout; such attempts are counted as retries."
        ),
    ] = False
