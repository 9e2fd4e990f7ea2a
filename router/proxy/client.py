"""Whose request is on a connection to an engine: a relay, or one of the attempts of a race."""

from typing import TYPE_CHECKING

from router.proxy.headers import RequestHead
from router.proxy.response_head import ResponseHead

if TYPE_CHECKING:
    from router.proxy.upstream import Upstream


class Client:
    """What a connection tells of, and to whom.

    Attributes:
        head: of the request.
        uploaded: the request has been written to the engine to its end.
        closes: the client's own connection must not be used again.
    """

    __slots__ = ("closes", "head", "uploaded")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.uploaded = False
        self.closes = False

    def connected(self, upstream: "Upstream") -> None:
        raise NotImplementedError

    def connect_failed(self, upstream: "Upstream") -> None:
        raise NotImplementedError

    def upload_unblocked(self) -> None:
        """The connection has room again for what is to be sent."""
        raise NotImplementedError

    def response_began(
        self, upstream: "Upstream", head: ResponseHead, data: bytes, now: float
    ) -> None:
        """The head, with what came of the body in the same read."""
        raise NotImplementedError

    def body(self, data: bytes, now: float) -> None:
        """One read of the response body, in the engine's framing, already checked."""
        raise NotImplementedError

    def response_ended(self, now: float) -> None:
        """The response is complete; the engine's connection is no longer ours."""
        raise NotImplementedError

    def upstream_lost(self, upstream: "Upstream", protocol: bool) -> None:
        """The engine closed, reset or broke the protocol before its response was complete."""
        raise NotImplementedError
