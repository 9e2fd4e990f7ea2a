"""Session affinity around any balancer: a session stays at its endpoint while that can be used.

With a cookie the client remembers: its value names the endpoint, as Envoy's stateful_session does,
but as a hash of the endpoint's id, so that no address leaves the cluster. Nothing is kept here; it
works across workers, routers and restarts, and no key moves when endpoints come or go, which a
hashed cookie could not promise. With a header, the ``user`` field or the client's address the
machine remembers in a ``SessionTable`` until nobody has used the session for its time (Kubernetes'
``ClientIP`` affinity).

A session whose endpoint is down, drained, ejected or full goes where the balancer says, and is
remembered there.
"""

from hashlib import blake2b
from typing import Final

from xxhash import xxh3_64_intdigest

from router.core.host import HostState
from router.core.hostset import HostSet, fit
from router.core.model import EndpointId, LlmRequest
from router.core.session.counts import SessionCounts
from router.core.session.policy import Session
from router.core.session.table import SessionTable

_QUOTE: Final = 0x22


class Sticky:
    """The sessions of one cluster or subset in one process.

    Args:
        scope: tells the cluster and subset apart from others in the table.
    """

    __slots__ = (
        "_all",
        "_by_code",
        "_by_slot",
        "_codes",
        "_is_cookie",
        "_line",
        "_lines",
        "_name",
        "_salt",
        "_table",
        "counts",
        "policy",
    )

    def __init__(
        self, policy: Session, scope: str, table: SessionTable, counts: SessionCounts
    ) -> None:
        self.policy = policy
        self.counts = counts
        self._table = table
        self._salt = f"{scope}\0{policy.kind}\0{policy.name}\0".encode()
        self._is_cookie = policy.kind == "cookie"
        self._name = (policy.name if self._is_cookie else policy.name.lower()).encode()
        name, attributes = (
            t.encode().replace(b"%", b"%%") for t in (policy.name, policy.attributes)
        )
        self._line = name + b"=%b" + attributes
        self._all: tuple[HostState, ...] = ()
        self._by_code: dict[bytes, HostState] = {}
        self._codes: dict[HostState, bytes] = {}
        self._lines: dict[HostState, bytes] = {}
        self._by_slot: dict[int, HostState] = {}

    def find(
        self, request: LlmRequest, hosts: HostSet, tried: tuple[EndpointId, ...], now: float
    ) -> tuple[HostState | None, str, bytes | None]:
        """The session's endpoint if there is one that can be used, what became of it, and what the
        session is known by."""
        value = self._value(request)
        host, known = self._remembered(value, hosts, now)
        if host is not None and fit(host) and host.endpoint.id not in tried:
            self.counts.kept += 1
            return host, "session", value
        if known:
            self.counts.moved += 1
            return None, ", session moved", value
        if value is None and not self._is_cookie:
            return None, "", None
        self.counts.begun += 1
        return None, ", new session", value

    def keep(self, value: bytes | None, host: HostState, now: float) -> bytes | None:
        """Remember where the session's request goes; returns the cookie to set, if any.

        Args:
            value: what ``find`` says that the session is known by.
        """
        if self._is_cookie:
            code = self._codes.get(host) or code_of(host)
            return None if value == code else self._lines.get(host) or self._line % code
        if value is not None:
            self._table.put(self._key(value), host.slot, now, self.policy.ttl)
        return None

    def remembered(
        self, request: LlmRequest, hosts: HostSet, now: float
    ) -> tuple[bool, HostState | None]:
        """Whether the request has a session, and its endpoint, usable or not; for ``explain``."""
        value = self._value(request)
        return value is not None, self._remembered(value, hosts, now)[0]

    def _remembered(
        self, value: bytes | None, hosts: HostSet, now: float
    ) -> tuple[HostState | None, bool]:
        """The host, and whether any was remembered, also one that is gone."""
        if hosts.all is not self._all:
            self._all = hosts.all
            self._codes = {host: code_of(host) for host in hosts.all}
            self._lines = {host: self._line % code for host, code in self._codes.items()}
            self._by_code = {code: host for host, code in self._codes.items()}
            self._by_slot = {host.slot: host for host in hosts.all}
        if value is None:
            return None, False
        if self._is_cookie:
            return self._by_code.get(value), True
        slot = self._table.get(self._key(value), now)
        return (None, False) if slot is None else (self._by_slot.get(slot), True)

    def _value(self, request: LlmRequest) -> bytes | None:
        """What the session of a request is known by; None without one. Empty values are none."""
        kind = self.policy.kind
        if self._is_cookie:
            value = request.cookie(self._name)
            if value and (value[0] == _QUOTE or value[-1] == _QUOTE):
                value = value.strip(b'"')
            return value or None
        if kind == "header":
            return request.header(self._name) or None
        if kind == "user":
            return request.user.encode() if request.user else None
        # A dash stands for a peer without an address, such as a Unix socket's.
        return request.client.encode() if request.client not in ("", "-") else None

    def _key(self, value: bytes) -> int:
        return xxh3_64_intdigest(self._salt + value)

    def __repr__(self) -> str:
        return f"<Sticky {self.policy.kind} {self.counts!r}>"


def code_of(host: HostState) -> bytes:
    """What a cookie calls an endpoint: 16 hexadecimal digits.

    It cannot be read back, but whoever guesses an address can check the guess.
    """
    return blake2b(host.endpoint.id.encode(), digest_size=8).hexdigest().encode()
