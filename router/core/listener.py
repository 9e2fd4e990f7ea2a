"""What a listener accepts: limits on what a client may send, and how long it may take."""

from dataclasses import dataclass

from router.core.access.addresses import AddressRules, ForwardedRules
from router.core.access.tenants import Mode


@dataclass(frozen=True, kw_only=True)
class ListenerLimits:
    """Sizes in bytes, durations in seconds; a duration of 0 switches that limit off.

    ``max_head``: request line and headers together (431 beyond). ``max_headers``: header lines
    (431). ``max_body``: request body (413). ``buffer_body``: up to here a body is kept whole and
    can be sent again; beyond, once the model is known, it is streamed with back-pressure and the
    request is not retried. ``max_buffered``: request bytes held by one worker for all its
    clients (503 beyond). ``head_timeout``: first byte to end of head (408). ``body_timeout``:
    silence while a body arrives (408). ``idle_timeout``: a kept connection without a request.
    ``write_high``: response bytes a slow reader may leave unread before its engine is paused.
    """

    max_head: int = 64 * 1024
    max_headers: int = 100
    max_body: int = 64 * 1024 * 1024
    buffer_body: int = 1024 * 1024
    max_buffered: int = 512 * 1024 * 1024
    head_timeout: float = 15.0
    body_timeout: float = 30.0
    idle_timeout: float = 300.0
    write_high: int = 64 * 1024
    expose_decision: bool = False
    """Answer with ``x-warmpath-endpoint`` and ``x-warmpath-reason``: who served, and why."""


@dataclass(frozen=True, kw_only=True)
class ListenerPolicy:
    """Who may come through one listener, and as whom.

    ``auth``: whether clients must say who they are. ``tls``: the connection is encrypted.
    ``addresses``, ``forwarded`` None: everybody may connect, and is who connects.
    """

    name: str
    auth: Mode = "off"
    tls: bool = False
    addresses: AddressRules | None = None
    forwarded: ForwardedRules | None = None
