"""Endpoints from DNS, asked again when the records expire.

A name that does not exist, or has no record of the kind, is an answer: there are no endpoints.
Everything else that goes wrong (no server, a server that fails, an answer that makes no sense) is
a failure. Addresses are sorted, as servers rotate them and a rotation is no change.

Of SRV records those of the lowest priority number are used whose targets have an address (RFC
2782); their weights become the endpoints' weights. Targets are looked up as IPv4 and IPv6.

Each lookup has a resolver of its own: c-ares caches within one, by the records' own times, and
would hide changes from a shorter ``max_ttl``.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from router.config.clusters import EndpointSpec
from router.config.discovery import DnsDiscovery
from router.config.units import Address
from router.control.discovery.answer import Answer, DiscoveryFailed

if TYPE_CHECKING:
    import aiodns

QUERY_TIMEOUT = 2.0
"""Seconds for one try of one query; there are two tries."""
LOOKUP_TIMEOUT = 15.0
"""Seconds for everything, an SRV record's targets included."""
MAX_TARGETS = 1000

Found = list[tuple[str, int, int]]
"""Host, port, weight."""


class DnsSource:
    """Follows one name."""

    Spec = DnsDiscovery
    max_pause = 10.0

    def __init__(self, spec: DnsDiscovery) -> None:
        self._spec = spec
        self._wait = 0.0

    async def next(self) -> Answer:
        await asyncio.sleep(self._wait)
        self._wait = 0.0  # a failure is followed by the pause of who asks
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                found, ttl = await self._lookup()
        except TimeoutError:
            raise DiscoveryFailed(f"{self._spec.name}: no answer in {LOOKUP_TIMEOUT:g}s") from None
        self._wait = min(max(ttl, float(self._spec.min_ttl)), float(self._spec.max_ttl))
        endpoints = {
            (host, port): EndpointSpec(address=Address.parse(_joined(host, port)), weight=weight)
            for host, port, weight in sorted(found)
        }
        return Answer(endpoints=tuple(endpoints.values()))

    async def _lookup(self) -> tuple[Found, float]:
        """What was found, and for how many seconds it holds."""
        import aiodns

        server = self._spec.resolver
        resolver = aiodns.DNSResolver(
            None if server is None else [str(server)], timeout=QUERY_TIMEOUT, tries=2
        )
        try:
            if self._spec.record == "SRV":
                return await self._services(resolver)
            records, ttl = await _query(resolver, self._spec.name, self._spec.record)
            assert self._spec.port is not None  # or the configuration had been refused
            return [(record.data.addr, self._spec.port, 1) for record in records], ttl
        finally:
            await resolver.close()

    async def close(self) -> None:
        """Nothing is held open."""

    async def _services(self, resolver: "aiodns.DNSResolver") -> tuple[Found, float]:
        records, ttl = await _query(resolver, self._spec.name, "SRV")
        by_priority: dict[int, list[Any]] = {}
        for record in records[:MAX_TARGETS]:
            if record.data.target not in ("", ".") and record.data.port:  # "." is: not offered
                by_priority.setdefault(record.data.priority, []).append(record.data)
        for _, services in sorted(by_priority.items()):
            found: Found = []
            targets = dict.fromkeys(service.target for service in services)
            lookups = [_addresses(resolver, target) for target in targets]
            addresses = dict(zip(targets, await asyncio.gather(*lookups), strict=True))
            for service in services:
                hosts, target_ttl = addresses[service.target]
                found += [(host, service.port, max(1, service.weight)) for host in hosts]
                ttl = min(ttl, target_ttl)
            if found:
                return found, ttl
        return [], ttl


async def _addresses(resolver: "aiodns.DNSResolver", name: str) -> tuple[list[str], float]:
    (v4, ttl4), (v6, ttl6) = await asyncio.gather(
        _query(resolver, name, "A"), _query(resolver, name, "AAAA")
    )
    # A target that has one kind of address does not expire by the other's absence.
    ttl = min([ttl for records, ttl in ((v4, ttl4), (v6, ttl6)) if records], default=0.0)
    return [record.data.addr for record in (*v4, *v6)], ttl


async def _query(resolver: "aiodns.DNSResolver", name: str, kind: str) -> tuple[list[Any], float]:
    """The records of a kind, none if there are none, and the seconds for which all hold.

    Raises:
        DiscoveryFailed: that cannot be said.
    """
    import aiodns

    try:
        result = await resolver.query_dns(name, kind)
    except aiodns.error.DNSError as error:
        if error.args and error.args[0] in (aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA):
            return [], 0.0
        text = error.args[1] if len(error.args) > 1 else str(error)
        raise DiscoveryFailed(f"{kind} {name}: {text}") from None
    wanted = aiodns.query_type_map[kind]
    records = [record for record in result.answer if record.type == wanted]
    # An alias on the way holds no longer than its own time.
    return records, min((float(record.ttl) for record in result.answer), default=0.0)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
