"""One listener's door: who may come in, and as whom.

Connections hold on to their listener's door, and a reload changes what is behind it, so that new
rules hold for the next request of a kept connection too. The credential is taken from the head
here; whose it is, the core says.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Final

from router.core.access.certificates import names
from router.core.access.tenants import ANONYMOUS, Access, Identity, missing
from router.core.listener import ListenerPolicy
from router.proxy.credentials import credential_of, over_tls, without_credentials
from router.proxy.headers import RequestHead
from router.proxy.tokens import TokenReader

MAX_REMEMBERED: Final = 4096


class Door:
    """A listener's policy in force.

    Args:
        policy: of the snapshot.
        access: the tenants, None without any.
        tokens: reads JSON Web Tokens; None where none are taken.
        wall: Unix seconds.

    Attributes:
        guarded: heads have to be looked at before a request is taken.
        addresses: who may connect; None: everybody.
        context: for handshakes; None: in the clear.
    """

    __slots__ = (
        "_access",
        "_certificates",
        "_clients",
        "_forwarded",
        "_mode",
        "_tokens",
        "_wall",
        "addresses",
        "context",
        "guarded",
        "name",
        "scheme",
    )

    def __init__(
        self,
        policy: ListenerPolicy,
        access: Access | None,
        tokens: TokenReader | None,
        context: ssl.SSLContext | None,
        wall: Callable[[], float],
    ) -> None:
        self._wall = wall
        self.follow(policy, access, tokens, context)

    def follow(
        self,
        policy: ListenerPolicy,
        access: Access | None,
        tokens: TokenReader | None,
        context: ssl.SSLContext | None,
    ) -> None:
        """Take a new configuration; what was remembered of credentials is the access's own."""
        self.name = policy.name
        self.scheme = "https" if policy.tls else "http"
        self.addresses = policy.addresses
        self.context = context
        self._mode = policy.auth if access is not None else "off"
        self._access = access
        self._tokens = tokens
        self._forwarded = policy.forwarded
        self._clients: dict[tuple[str, bytes], str] = {}
        self._certificates: dict[tuple[str, ...], Identity | None] = {}
        self.guarded = access is not None or policy.forwarded is not None or policy.tls

    def admits(self, peer: str) -> bool:
        """Whether a connection from this address may stay."""
        return self.addresses is None or self.addresses.admits(peer)

    def identify(self, head: RequestHead, shown: tuple[str, ...]) -> Identity:
        """Who sent this request.

        Args:
            shown: the names in the client's certificate.

        Raises:
            Unauthorized: nobody that is known, and somebody is asked for.
        """
        access = self._access
        if access is None or self._mode == "off":
            return ANONYMOUS
        credential = credential_of(head)
        if credential is not None:
            known = access.known(credential, self._wall())
            return known if known is not None else access.identify(credential, self._verify)
        if shown and (known := self._by_certificate(shown, access)) is not None:
            return known
        return missing(self._mode)

    def _verify(self, token: bytes) -> Identity:
        assert self._tokens is not None, "tokens are credentials only where they can be read"
        return self._tokens.identify(token)

    def _by_certificate(self, shown: tuple[str, ...], access: Access) -> Identity | None:
        if shown not in self._certificates:
            if len(self._certificates) >= MAX_REMEMBERED:
                self._certificates.clear()
            self._certificates[shown] = access.by_certificate(shown)
        return self._certificates[shown]

    def client(self, peer: str, head: RequestHead) -> str:
        """The address that the request comes from."""
        if self._forwarded is None:
            return peer
        lines = [value for name, value in head.fields if name == b"x-forwarded-for"]
        if not lines:
            return peer
        key = peer, b",".join(lines)
        client = self._clients.get(key)
        if client is None:
            client = self._forwarded.client(peer, key[1].decode("latin-1"))
            if len(self._clients) >= MAX_REMEMBERED:
                self._clients.clear()
            self._clients[key] = client
        return client

    def dress(self, head: RequestHead) -> None:
        """Make of the head what an engine may see."""
        if self._access is not None:
            without_credentials(head)
        if self.scheme == "https":
            over_tls(head)

    def __repr__(self) -> str:
        return f"<Door {self.name} {self.scheme} auth={self._mode}>"


def open_door() -> Door:
    """The door of a listener that asks nothing."""
    return Door(ListenerPolicy(name="-"), None, None, None, time.time)


class Visit:
    """One connection as its door sees it.

    Attributes:
        names: of the client's certificate.
        client: the address that the present request comes from.
        identity: who sent it.
    """

    __slots__ = ("client", "door", "identity", "names")

    def __init__(self, door: Door) -> None:
        self.door = door
        self.names: tuple[str, ...] = ()
        self.client = "-"
        self.identity = ANONYMOUS

    def begin(self, peer: str, transport: asyncio.BaseTransport) -> None:
        """The connection is there, its handshake over."""
        self.client = peer
        if self.door.context is not None and (shown := transport.get_extra_info("peercert")):
            self.names = names(shown)

    def enter(self, head: RequestHead, peer: str) -> None:
        """Look at a request's head.

        Raises:
            Unauthorized: it may not come in.
        """
        door = self.door
        self.client = door.client(peer, head)
        self.identity = ANONYMOUS
        self.identity = door.identify(head, self.names)
        door.dress(head)
