"""Requests from web pages for paths that no route is asked about, or with a method of theirs alone.

The router answers /v1/models and /health itself and refuses methods that a known path does not
take. A page on another origin needs its permission there too: it is the policy of the first route
that would take such a request, or else the one for all routes.
"""

from router.core.cors import requested_method
from router.core.model import LlmRequest
from router.core.snapshot import Snapshot
from router.proxy.door import Visit
from router.proxy.headers import RequestHead
from router.proxy.peek import described
from router.proxy.seen import NOTHING


def is_preflight(snapshot: Snapshot, head: RequestHead, visit: Visit) -> bool:
    """Whether this asks for a permission that there is."""
    if head.method != b"OPTIONS":
        return False
    request = described(head, NOTHING, visit, 0)
    return requested_method(request) is not None and bool(_lines(snapshot, request))


def permission(snapshot: Snapshot, head: RequestHead, visit: Visit) -> list[bytes]:
    """Header lines for an answer of the router's own, errors among them."""
    if not snapshot.routes.preflights and snapshot.cors is None:
        return []
    return _lines(snapshot, described(head, NOTHING, visit, 0))


def _lines(snapshot: Snapshot, request: LlmRequest) -> list[bytes]:
    method = requested_method(request) or request.method
    for cors, route in snapshot.routes.preflights:
        if route.match.takes_preflight(request, method) and (lines := cors.lines(request)):
            return lines
    return [] if snapshot.cors is None else snapshot.cors.lines(request)
