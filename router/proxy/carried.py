"""What a relay keeps of the one request that it carries."""

from typing import TYPE_CHECKING

from router.core import errors
from router.core.events import Stage
from router.core.exchange import Exchange
from router.proxy.client import Client
from router.proxy.fault import Hold
from router.proxy.headers import RequestHead
from router.proxy.paths import Body
from router.proxy.reply import Reply
from router.proxy.timers import NEVER
from router.proxy.upstream import Upstream

if TYPE_CHECKING:
    from router.proxy.downstream import Downstream
    from router.proxy.race import Race
    from router.proxy.server import ProxyServer
    from router.proxy.waiting import Waiting


class Carried(Client):
    """What is known of one request on its way.

    Attributes:
        exchange: None until the request is known well enough to be routed.
        fault: what the route does to this request on purpose; None for most.
        race: the attempts that are under way; None where there is one at most.
        whole: the request has been read to its end.
        reply: the response as it goes to the client; None until its head has been written.
        total_deadline: when the route's total time-out ends the exchange; NEVER if it has none.
        waiting: the comments that it gets while it is queued; None for most.
        idle: the route's idle time-out while a response flows; NEVER if it has none.
    """

    __slots__ = (
        "_certain",
        "_held",
        "_kind",
        "_mended",
        "_pieces",
        "_protocol_error",
        "_refusal",
        "_server",
        "_stage",
        "_upload_chunked",
        "_uploading",
        "arrived",
        "arrived_wall",
        "bytes_in",
        "bytes_out",
        "chunks",
        "downstream",
        "exchange",
        "fault",
        "first_body_at",
        "idle",
        "race",
        "reply",
        "total_deadline",
        "upstream",
        "waiting",
        "whole",
    )

    def __init__(
        self,
        server: "ProxyServer",
        downstream: "Downstream",
        head: RequestHead,
        kind: Body,
        now: float,
    ) -> None:
        super().__init__(head)
        self._server = server
        self.downstream = downstream
        self._kind = kind
        # Another model's name could be hidden in what is not looked at.
        self._certain = downstream.visit.identity.certain
        self.arrived = now
        self.arrived_wall = server.wall()
        self.exchange: Exchange | None = None
        self.upstream: Upstream | None = None
        self.fault: Hold | None = None
        self.race: Race | None = None
        self.waiting: Waiting | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.chunks = 0
        self.whole = False
        self.reply: Reply | None = None
        self.first_body_at: float | None = None
        self.idle = NEVER
        self._upload_chunked = False
        self._uploading = False
        self._mended = False
        self._protocol_error = False
        self._refusal: errors.RouterError | None = None
        self._stage = Stage.FIRST_BYTE
        self.total_deadline = NEVER
