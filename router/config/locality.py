"""Places in the configuration file: where endpoints are, and who stands in for whom.

Priorities are derived here as Istio derives them (``applyLocalityFailover`` and
``applyPriorityFailover`` in pilot's loadbalancer.go): by how near an endpoint is to the router, or
by how many labels in a row agree. What was derived refines the endpoint's own ``priority``, and the
numbers are closed up, so that they run from 0 without a gap.
"""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Protocol

import msgspec

from router.config.findings import Path, Problem
from router.config.section import Section, Weight, doc
from router.core.model import Locality

_PLACE = r"[^/*\s]{1,63}"
Place = Annotated[str, msgspec.Meta(pattern=rf"^({_PLACE}(/{_PLACE}){{0,2}})?$")]
Weighted = Annotated[str, msgspec.Meta(pattern=rf"^{_PLACE}(/{_PLACE}){{0,2}}$")]
Part = Annotated[str, msgspec.Meta(pattern=r"^[^/*\s]{0,63}$")]
Region = Annotated[str, msgspec.Meta(pattern=rf"^{_PLACE}$")]

OWN_PARTS = ("region", "zone", "subzone")


class LocalitySpec(Section, frozen=True, kw_only=True):
    """A place. A plain region, region/zone or region/zone/subzone stands for it."""

    shorthand: ClassVar[str | None] = "region"

    region: Annotated[Place, doc("Of a cloud, say; or all three parts with slashes.")] = ""
    zone: Annotated[Part, doc("Within the region: what fails together.")] = ""
    subzone: Annotated[Part, doc("Within the zone: a rack, say.")] = ""


class Localities(Section, frozen=True, kw_only=True):
    """Which places get how much, and which stand in for which."""

    weights: Annotated[
        dict[Weighted, Weight],
        doc(
            "Places and their shares of the requests, lowered as their endpoints fail; endpoints "
            "in no such place get nothing."
        ),
    ] = {}
    nearest: Annotated[
        bool,
        doc(
            "Prefer endpoints in the router's own subzone, then zone, then region, then elsewhere."
        ),
    ] = False
    failover: Annotated[
        dict[Region, Region],
        doc("Which region stands in first for the router's own; implies nearest."),
    ] = {}
    failover_priority: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^(region|zone|subzone|[^=]+=.*)$")], ...],
        doc(
            "Labels (name=value), or region, zone and subzone for the router's own: the more of "
            "them agree with an endpoint's, from the first on, the sooner it is used.",
            single=True,
            max_length=16,
        ),
    ] = ()


class Placed(Protocol):
    """The part of an endpoint's section that is looked at here."""

    @property
    def locality(self) -> LocalitySpec: ...
    @property
    def priority(self) -> int: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


def locality(spec: LocalitySpec) -> Locality:
    """The core's form."""
    parts = (*spec.region.split("/"), "", "")
    if "/" in spec.region:
        return Locality(*parts[:3])
    return Locality(spec.region, spec.zone, spec.subzone)


def priorities(
    endpoints: Sequence[Placed], rules: Localities | None, own: LocalitySpec | None
) -> list[int]:
    """Each endpoint's priority, from 0 without gaps.

    Args:
        own: where the router is; None if it does not know, which derives nothing.
    """
    here = locality(own) if own is not None else Locality()
    ranks = [(one.priority, _rank(one, rules, here)) for one in endpoints]
    order = {rank: index for index, rank in enumerate(sorted(set(ranks)))}
    if rules is None:
        # As they are written: an operator looks for the numbers that he gave.
        return [one.priority for one in endpoints]
    return [order[rank] for rank in ranks]


def _rank(endpoint: Placed, rules: Localities | None, here: Locality) -> int:
    if rules is None:
        return 0
    place = locality(endpoint.locality)
    if rules.failover_priority:
        wanted = [_agrees(one, endpoint, place, here) for one in rules.failover_priority]
        return len(wanted) - (wanted.index(False) if False in wanted else len(wanted))
    if not (rules.nearest or rules.failover) or not here.region:
        return 0
    distance = _distance(here, place)
    if distance == 3 and rules.failover.get(here.region, place.region) != place.region:
        return 4
    return distance


def _distance(here: Locality, there: Locality) -> int:
    if here.region != there.region:
        return 3
    if here.zone != there.zone:
        return 2
    return int(here.subzone != there.subzone)


def _agrees(wanted: str, endpoint: Placed, place: Locality, here: Locality) -> bool:
    if wanted in OWN_PARTS:
        return bool(getattr(place, wanted) == getattr(here, wanted))
    name, _, value = wanted.partition("=")
    return endpoint.labels.get(name) == value


def place_problems(spec: LocalitySpec | None, path: Path) -> Iterator[Problem]:
    """What is wrong with a place."""
    if spec is None:
        return
    if "/" in spec.region and (spec.zone or spec.subzone):
        yield Problem((*path, "region"), "give the parts apart, or all in one text, not both")
    elif (spec.zone and not spec.region) or (spec.subzone and not spec.zone):
        part = "zone" if spec.zone and not spec.region else "subzone"
        yield Problem((*path, part), f"a {part} needs the part above it too")


def rules_problems(
    rules: Localities | None, own: LocalitySpec | None, path: Path
) -> Iterator[Problem]:
    """What is wrong with a cluster's rules."""
    if rules is None:
        return
    if rules.failover_priority and (rules.nearest or rules.failover):
        yield Problem(
            (*path, "failover_priority"), "together with nearest or failover: give one of them"
        )
    for name in ("nearest", "failover"):
        if getattr(rules, name) and own is None:
            yield Problem(
                (*path, name), "the router must know where it runs: set locality at the top"
            )
    if own is None and set(rules.failover_priority) & set(OWN_PARTS):
        yield Problem(
            (*path, "failover_priority"),
            "the router must know where it runs: set locality at the top",
        )
    for region, other in rules.failover.items():
        if region == other:
            yield Problem((*path, "failover", region), f"{region} cannot stand in for itself")
