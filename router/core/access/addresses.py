"""Addresses: which networks may connect, and whose address a request really comes from.

``X-Forwarded-For`` is a claim that anybody can write, so it is believed only as far as proxies of
our own wrote it: the last N of its entries (Envoy's ``xff_num_trusted_hops``), or all behind the
last entry that is no known proxy (Envoy's ``xff_trusted_cidrs``).
"""

import ipaddress
from collections.abc import Sequence

import msgspec

MAX_REMEMBERED = 4096
MAX_ENTRIES = 64
"""Entries of one header that are looked at; a longer one is no chain of proxies."""

Range = tuple[int, int, int]
"""Version, first and last address as a number."""


def parse_network(text: str) -> Range:
    """``10.0.0.0/8``, ``10.1.2.3`` or their like in IPv6.

    Raises:
        ValueError: it is none, or has bits set behind its length.
    """
    network = ipaddress.ip_network(text)
    return network.version, int(network.network_address), int(network.broadcast_address)


def _number(text: str) -> tuple[int, int] | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return 4, int(address.ipv4_mapped)  # a listener on [::] sees IPv4 clients like this
    return address.version, int(address)


class Networks:
    """A set of networks.

    Args:
        texts: each as for ``parse_network``.

    Raises:
        ValueError: one of them is none.
    """

    __slots__ = ("_ranges", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._ranges = tuple(parse_network(text) for text in texts)

    def __contains__(self, address: str) -> bool:
        found = _number(address)
        if found is None:
            return False
        version, number = found
        return any(
            version == kind and first <= number <= last for kind, first, last in self._ranges
        )

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Networks) and other.texts == self.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def __repr__(self) -> str:
        return f"<Networks {' '.join(self.texts)}>"


NO_NETWORKS = Networks(())


class AddressRules(msgspec.Struct, frozen=True):
    """Who may connect. ``deny`` wins over ``allow``; an empty ``allow`` lets everybody in."""

    allow: Networks = NO_NETWORKS
    deny: Networks = NO_NETWORKS

    def admits(self, peer: str) -> bool:
        """Whether a connection from this address may stay; of no address (a socket file): yes."""
        if not peer or peer == "-":
            return True
        return peer not in self.deny and (not self.allow or peer in self.allow)


class ForwardedRules(msgspec.Struct, frozen=True):
    """Whose ``X-Forwarded-For`` is believed: at most one of the two is set."""

    trusted_hops: int = 0
    trusted_proxies: Networks = NO_NETWORKS

    def client(self, peer: str, forwarded_for: str) -> str:
        """The client's address.

        Args:
            peer: who connected.
            forwarded_for: the header as received, without ``peer``.
        """
        entries = [entry.strip() for entry in forwarded_for.split(",")][-MAX_ENTRIES:]
        if self.trusted_hops:
            found = entries[-self.trusted_hops] if len(entries) >= self.trusted_hops else ""
            return _plain(found) or peer
        client = peer
        for entry in reversed(entries):
            if client not in self.trusted_proxies:
                break
            address = _plain(entry)
            if address is None:
                break
            client = address
        return client


def _plain(entry: str) -> str | None:
    """The address in an entry, without a port or brackets; None if it holds none."""
    host = entry
    if entry.startswith("["):
        host = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        host = entry.partition(":")[0]
    return host if _number(host) is not None else None
