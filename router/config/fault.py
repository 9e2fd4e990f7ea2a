"""Fault injection in the configuration file; order and meaning are those of Envoy's filter."""
# ruff: noqa: RUF012 -- an empty mapping as a default is copied by msgspec

from typing import Annotated

import msgspec

from router.config.matches import StringCondition
from router.config.section import Section, Text, doc
from router.config.units import Interval, Percent

_SHARE = "How many of the requests, drawn at random."
Events = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class FaultDelay(Section, frozen=True, kw_only=True):
    """Holds a request before it looks for a place; no time-out of the route runs meanwhile."""

    duration: Annotated[Interval, doc("For so long.")]
    percent: Annotated[Percent, doc(_SHARE)] = Percent(100)


class FaultAbort(Section, frozen=True, kw_only=True):
    """Answers with an error and asks no endpoint; after the delay, if there is one."""

    status: Annotated[int, doc("400 to 599.", ge=400, le=599)]
    percent: Annotated[Percent, doc(_SHARE)] = Percent(100)


class FaultCut(Section, frozen=True, kw_only=True):
    """Ends an event stream with an error event, as if its endpoint had died."""

    after: Annotated[Events, doc("So many of its events.")]
    percent: Annotated[Percent, doc(_SHARE)] = Percent(100)


class FaultStall(Section, frozen=True, kw_only=True):
    """Lets an event stream pause; its engine feels the back-pressure. timeouts.total still runs."""

    after: Annotated[Events, doc("So many of its events.")]
    duration: Annotated[Interval, doc("For so long.")]
    percent: Annotated[Percent, doc(_SHARE)] = Percent(100)


class FaultSpec(Section, frozen=True, kw_only=True):
    """At least one of delay, abort, cut and stall, each drawn for itself."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None
    cut: FaultCut | None = None
    stall: FaultStall | None = None
    headers: Annotated[
        dict[Text, StringCondition], doc("Only requests whose headers meet all of these.")
    ] = {}
    max_active: Annotated[
        int,
        doc(
            "Requests and streams held at one time by one worker; beyond it they go on at once.",
            ge=0,
            le=1_000_000,
        ),
    ] = 1024
