"""Kubernetes' EndpointSlices: the part of them that is read, and what they say together.

A service has several slices: of at most 100 endpoints by default, and of one address family each.
While the cluster moves endpoints between slices, one may stand in two of them. A pod is one
endpoint, known by its uid: of several entries the usable one counts, then the IPv4 one.

Conditions as the API defines them: no word on ``ready`` means ready, ``serving`` means ready
apart from the pod's end. A pod that is ending and still serves is drained; one that is not ready is
left out.
"""

from collections.abc import Iterable, Mapping

import msgspec

from router.config.clusters import EndpointSpec
from router.config.locality import LocalitySpec
from router.config.units import Address
from router.control.discovery.answer import DiscoveryFailed

MAX_LABEL = 256


class Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct):
    name: str = ""
    uid: str = ""


class ForZone(msgspec.Struct):
    name: str = ""


class Hints(msgspec.Struct, rename="camel"):
    for_zones: list[ForZone] | None = None


class SliceEndpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: Hints | None = None


class SlicePort(msgspec.Struct):
    name: str | None = None
    port: int | None = None


class Slice(msgspec.Struct, rename="camel"):
    metadata: Metadata
    address_type: str = "IPv4"
    endpoints: list[SliceEndpoint] | None = None
    ports: list[SlicePort] | None = None


class SliceList(msgspec.Struct):
    metadata: Metadata
    items: list[Slice]


class Event(msgspec.Struct):
    """One line of a watch. ``object``: a slice, or a status when the type is ERROR."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct):
    code: int = 0
    message: str = ""


def merged(
    slices: Mapping[str, Slice], port: int | str | None, region: str = ""
) -> tuple[EndpointSpec, ...]:
    """The endpoints of all slices of a service, each pod and each address once, sorted.

    Args:
        region: where all of them are; without it they have no locality.

    Raises:
        DiscoveryFailed: none of the slices with endpoints has the port, or there are several and
            none was asked for.
    """
    problem: DiscoveryFailed | None = None
    best: dict[str, tuple[tuple[bool, bool], EndpointSpec]] = {}
    for slice_ in slices.values():
        found = [e for e in slice_.endpoints or () if e.addresses and _usable(e)]
        if not found:
            continue
        try:
            number = _port(slice_, port)
        except DiscoveryFailed as error:
            problem = error
            continue
        for entry in found:
            spec = _endpoint(entry, number, region)
            rank = (spec.drain, slice_.address_type != "IPv4")
            key = spec.uid or str(spec.address)
            if key not in best or rank < best[key][0]:
                best[key] = rank, spec
    if problem is not None and not best:
        raise problem
    return _by_address(spec for _, spec in best.values())


def _by_address(specs: Iterable[EndpointSpec]) -> tuple[EndpointSpec, ...]:
    """Each address once: where a new pod has the address of one that is ending, the new one."""
    kept: dict[str, EndpointSpec] = {}
    for spec in sorted(specs, key=lambda spec: (str(spec.address), spec.drain, spec.uid or "")):
        kept.setdefault(str(spec.address), spec)
    return tuple(kept.values())


def _usable(entry: SliceEndpoint) -> bool:
    conditions = entry.conditions or Conditions()
    if conditions.terminating:
        return bool(conditions.serving)
    return conditions.ready is not False


def _port(slice_: Slice, wanted: int | str | None) -> int:
    ports = [port for port in slice_.ports or () if port.port is not None]
    matching = [p for p in ports if wanted is None or wanted in (p.name, p.port)]
    if len(matching) == 1 and matching[0].port is not None:
        return matching[0].port
    known = ", ".join(f"{p.name or 'unnamed'} ({p.port})" for p in ports[:10]) or "none"
    problem = "no port" if not matching else "several ports"
    which = "" if wanted is None else f" {wanted!r}"
    raise DiscoveryFailed(f"slice {slice_.metadata.name} has {problem}{which}; it has: {known}")


def _zone(entry: SliceEndpoint) -> str:
    """Whose clients it is to serve: where Kubernetes hints at one zone that one, else its own."""
    hinted = entry.hints.for_zones if entry.hints is not None else None
    if hinted is not None and len(hinted) == 1 and hinted[0].name:
        return hinted[0].name
    return entry.zone or ""


def _endpoint(entry: SliceEndpoint, port: int, region: str) -> EndpointSpec:
    host = entry.addresses[0]
    target = entry.target_ref or TargetRef()
    labels = {"zone": entry.zone, "node": entry.node_name, "pod": target.name}
    try:
        return EndpointSpec(
            address=Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
            labels={name: value[:MAX_LABEL] for name, value in labels.items() if value},
            uid=target.uid or None,
            locality=LocalitySpec(region=region, zone=_zone(entry) if region else ""),
            drain=bool(entry.conditions and entry.conditions.terminating),
        )
    except ValueError as error:
        raise DiscoveryFailed(f"endpoint {target.name or host}: {error}") from None
