"""From a route's hedges to the core's, and what their fields cannot say."""

from collections.abc import Iterator

from router.config.findings import Path, Problem
from router.config.hedge import Hedge
from router.config.routes import RouteSpec
from router.core.retry import hedge as core


def build_hedge(spec: Hedge | None) -> core.Hedge | None:
    """The core's form."""
    if spec is None:
        return None
    slow = spec.after is not None or spec.quantile is not None
    return core.Hedge(
        after=0.0 if spec.after is None else float(spec.after),
        quantile=None if spec.quantile is None else float(spec.quantile) / 100.0,
        most=spec.max if slow else 0,
        budget_percent=float(spec.budget),
        min_concurrency=spec.min_concurrency,
        on_per_try_timeout=spec.on_per_try_timeout,
    )


def hedge_problems(route: RouteSpec, path: Path) -> Iterator[Problem]:
    """What is wrong with a route's ``hedge``, which stands at ``path``."""
    hedge = route.hedge
    if hedge is None:
        return
    if hedge.quantile is not None and not 0 < hedge.quantile < 100:
        yield Problem((*path, "quantile"), f"must lie between 0% and 100%, not at {hedge.quantile}")
    if not hedge.on_per_try_timeout:
        if hedge.after is None and hedge.quantile is None:
            yield Problem(path, "when is an answer slow? give after, quantile or both")
        return
    here: Path = (*path, "on_per_try_timeout")
    if route.retry is None or not route.retry.attempts or not route.retry.per_try_timeout:
        yield Problem(here, "needs retries and a retry.per_try_timeout")
    elif not route.timeouts.total:
        yield Problem(here, "needs a timeouts.total: nothing else ends the attempts that were slow")
