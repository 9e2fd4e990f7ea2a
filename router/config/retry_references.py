"""What the types of retries cannot say: causes without what they mean, and the other way round."""

from collections.abc import Iterator

from router.config.findings import Path, Problem
from router.config.match_references import FIELD_NAME, header_problems
from router.config.retry import Retry


def retry_problems(retry: Retry | None, path: Path) -> Iterator[Problem]:
    """What is wrong with a route's ``retry``, which stands at ``path``."""
    if retry is None:
        return
    yield from _causes(retry, path)
    yield from header_problems(retry.retriable_headers, (*path, "retriable_headers"))
    requests: Path = (*path, "retriable_request_headers")
    yield from header_problems(retry.retriable_request_headers, requests)
    limited = retry.rate_limited_back_off
    for index, header in enumerate(() if limited is None else limited.reset_headers):
        if not FIELD_NAME.fullmatch(header.name):
            here: Path = (*path, "rate_limited_back_off", "reset_headers", index, "name")
            yield Problem(here, f"not a header name: {header.name!r}")
    waits = retry.back_off
    longest = None if waits is None else waits.max_interval
    if waits is not None and longest is not None and longest < waits.base_interval:
        yield Problem(
            (*path, "back_off", "max_interval"),
            f"must be at least base_interval ({waits.base_interval}), not {longest}",
        )


def _causes(retry: Retry, path: Path) -> Iterator[Problem]:
    causes = retry.on
    if "retriable-status-codes" in causes and not any(isinstance(c, int) for c in causes):
        yield Problem(
            (*path, "on", causes.index("retriable-status-codes")),
            "no status code is given; write the codes themselves: [429, 503]",
        )
    named, given = "retriable-headers" in causes, bool(retry.retriable_headers)
    if named and not given:
        at = causes.index("retriable-headers")
        yield Problem((*path, "on", at), "no header is given in retriable_headers")
    if given and not named:
        message = "nothing looks at it: `on` does not name retriable-headers"
        yield Problem((*path, "retriable_headers"), message, at_key=True)
