"""Heads and bodies of routes that change something, and answers that routes give themselves.

Works on finished heads, line by line: the quick ways in ``headers`` and ``reply`` know nothing of
it, and what is not changed stays byte for byte. Framing is never a route's to change.
"""

from collections.abc import Sequence

from router.core.actions import Actions
from router.core.events import Answer, Reject
from router.core.exchange import Exchange
from router.core.header_edits import Facts
from router.proxy import date, model_rewrite, respond
from router.proxy.chunked import chunk
from router.proxy.headers import RequestHead
from router.proxy.response_head import ResponseHead, ResponseShape


def outgoing(
    exchange: Exchange, head: RequestHead, peer: bytes, pieces: Sequence[bytes], whole: bool
) -> list[bytes]:
    """What the engine is sent, head and body; of a body that is still coming, its beginning.

    Args:
        peer: the client's address.
        pieces: what there is of the body.
        whole: that is all.
    """
    actions = exchange.actions
    assert actions is not None
    written = list(pieces)
    if actions.model is not None and pieces:
        named = model_rewrite.rewrite(pieces, head.content_type, actions.model, whole=whole)
        written = written if named is None else named
    grown = sum(map(len, written)) - sum(map(len, pieces))
    chunked = not whole and head.length is None
    length: int | None = None
    if head.length is not None:
        length = head.length + grown
    elif whole and head.chunked:
        length = sum(map(len, written))
    raw = head.upstream(peer, length, chunked)
    if actions.edits_head:
        raw = _request_head(raw, actions, facts_of(exchange))
    return [raw, *(map(chunk, filter(None, written)) if chunked else written)]


def facts_of(exchange: Exchange) -> Facts:
    assert exchange.route is not None
    traffic, lease = exchange.traffic, exchange.lease
    return Facts(
        exchange.request,
        exchange.route.name,
        "" if traffic is None else traffic.cluster.name,
        None if lease is None else lease.host.endpoint,
    )


def _request_head(raw: bytes, actions: Actions, facts: Facts) -> bytes:
    first, *lines = raw[:-4].split(b"\r\n")
    if actions.path is not None:
        method, target, version = first.split(b" ")
        first = b"%b %b %b" % (method, actions.path.target(target), version)
    return b"\r\n".join([first, *actions.request_lines(lines, facts), b"", b""])


def response_head(head: ResponseHead, exchange: Exchange) -> ResponseHead:
    """The engine's head as the client gets it, but for its framing."""
    actions = exchange.actions
    assert actions is not None
    if not actions.response and actions.cors is None:
        return head
    first, *lines = head.shape.start[:-2].split(b"\r\n")
    lines = actions.response_lines(lines, facts_of(exchange))
    shape = ResponseShape(
        head.status,
        b"\r\n".join([first, *lines, b""]),
        head.chunked,
        head.content_type,
        head.keep_alive,
        head.retry_after,
    )
    return ResponseHead(shape, head.length)


def own(
    effect: Answer | Reject, request: RequestHead, exchange: Exchange | None, *, close: bool
) -> bytes:
    """A whole response without an engine's. ``close``: the connection ends after it."""
    if isinstance(effect, Reject):
        return respond.error_answer(effect.error, request, exchange, close=close)
    answer = effect
    status = answer.status
    lines = [respond.status_line(status), date.line(), *answer.lines]
    if status != 204:  # RFC 9110 8.6
        lines.append(b"content-length: %d" % len(answer.body))
    lines.append(b"x-request-id: " + request.request_id)
    if close:
        lines.append(b"connection: close")
    elif not request.http11:
        lines.append(b"connection: keep-alive")
    body = b"" if request.method == b"HEAD" else answer.body
    return b"\r\n".join([*lines, b"", body])
