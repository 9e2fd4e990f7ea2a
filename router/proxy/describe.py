"""A request in words, read by the code that reads it from a socket.

``explain`` is asked about requests that nobody sent. What it is told is written out as the head
and body that a client would send, and taken apart by the proxy's own parsers, so that path,
headers, model and prefix hash are what they would be, and so is a refusal.
"""

from collections.abc import Mapping
from ipaddress import ip_address

import msgspec

from router.core.errors import BadRequest
from router.core.explanation import BadDescription, Description, OwnAnswer
from router.core.model import LlmRequest, Priority
from router.core.snapshot import Snapshot
from router.proxy import respond
from router.proxy.door import Visit, open_door
from router.proxy.known_heads import parse_request
from router.proxy.paths import Body, look_up
from router.proxy.peek import described, peek


def describe(words: Description, snapshot: Snapshot) -> LlmRequest:
    """The request that these words describe, as the core is told of it.

    Its prompt is named whether or not a balancer would read that.

    Raises:
        RouterError: what the client would be answered before any route is looked at.
        OwnAnswer: the router answers such a request itself.
        BadDescription: there is no such client.
    """
    _check_client(words, snapshot)
    body = _body(words)
    lines = [
        f"{words.method} {words.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in words.headers),
    ]
    given = {name.lower() for name, _ in words.headers}
    if "host" not in given:
        lines.append("host: localhost")
    if body and "content-type" not in given:
        lines.append("content-type: application/json")
    limits = snapshot.limits
    raw = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    head = parse_request(raw, limits.max_headers)
    kind = look_up(head.path, head.method)
    if kind in (Body.MODELS, Body.HEALTH):
        raise OwnAnswer(head.path)
    if len(body) > limits.max_body:
        raise respond.too_large(limits.max_body)
    seen = peek([body], len(body), kind, head, snapshot.routes.aliases)
    visit = Visit(open_door())
    visit.client = words.client
    request = described(head, seen, visit, len(body))
    return request.but(tenant=words.tenant, priority=Priority[words.priority.upper()])


def _check_client(words: Description, snapshot: Snapshot) -> None:
    known = None if snapshot.access is None else snapshot.access.tenants
    if words.tenant is not None and known is not None and words.tenant not in known:
        raise BadDescription(f"no tenant is named {words.tenant!r}", "tenant")
    try:
        ip_address(words.client)
    except ValueError:
        raise BadDescription(
            f"a client has an IP address, not {words.client!r}", "client"
        ) from None


def _body(words: Description) -> bytes:
    if words.body is not None:
        if any(
            one is not None for one in (words.model, words.user, words.prompt, words.max_tokens)
        ):
            raise BadRequest(
                "a body names its own model, user, prompt and max_tokens: give it, or these",
                param="body",
            )
        return words.body
    if words.method in ("GET", "HEAD"):
        return b""
    fields: dict[str, str | int | None]
    fields = {"model": words.model, "user": words.user, "max_tokens": words.max_tokens}
    if words.prompt is not None:
        if words.path.partition("?")[0].endswith("/completions") and "chat" not in words.path:
            fields["prompt"] = words.prompt
        else:
            message = {"role": "user", "content": words.prompt}
            return msgspec.json.encode(_given(fields) | {"messages": [message]})
    return msgspec.json.encode(_given(fields))


def _given(fields: Mapping[str, str | int | None]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
