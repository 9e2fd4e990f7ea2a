"""W3C trace contexts on their way to engines: passed on, taken away, or made.

A client's context passes as it is, without any of this. What is made is a hash of the exchange,
so that each attempt carries the same one and the log knows it without its being kept.
"""

import re
import secrets
from hashlib import blake2b

from router.config.accesslog import TraceContext
from router.core.exchange import Exchange
from router.proxy.headers import RequestHead

_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_ZERO = b"0" * 32
_LINES = re.compile(rb"(?i)\r\ntrace(?:parent|state):[^\r\n]*")


def trace_id(traceparent: bytes) -> str | None:
    """The trace id of a traceparent, None if it is not a valid one."""
    matched = _PARENT.fullmatch(traceparent)
    if matched is None or traceparent.startswith(b"ff") or matched[1] == _ZERO:
        return None
    return matched[1].decode("ascii")


class Tracing:
    """A policy other than passing everything on.

    Args:
        policy: what to do.
        salt: makes the ids of this process its own.
    """

    def __init__(self, policy: TraceContext, salt: bytes | None = None) -> None:
        self._propagate = policy.propagate
        self._flags = {"never": None, "unsampled": b"00", "sampled": b"01"}[policy.generate]
        self._salt = secrets.token_bytes(16) if salt is None else salt

    def prepared(self, raw: bytes, head: RequestHead, exchange: Exchange) -> bytes:
        """The head for an engine as it is to be sent."""
        has = bool(head.shape.traceparent)
        if not self._propagate:
            raw = _LINES.sub(b"", raw)
            has = False
        if has or self._flags is None:
            return raw
        return b"%btraceparent: %b\r\n\r\n" % (raw[:-2], self.made(exchange))

    def made(self, exchange: Exchange) -> bytes:
        """The traceparent that is made for an exchange."""
        key = f"{exchange.serial}\0{exchange.request.id}".encode()
        digest = blake2b(key, digest_size=24, key=self._salt).hexdigest().encode("ascii")
        assert self._flags is not None
        return b"00-%b-%b-%b" % (digest[:32], digest[32:], self._flags)

    def logged(self, head: RequestHead, exchange: Exchange) -> str | None:
        """The trace id by which engines know the exchange."""
        given = head.shape.traceparent
        if given and self._propagate:
            return trace_id(given)
        return None if self._flags is None else trace_id(self.made(exchange))
