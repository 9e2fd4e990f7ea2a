"""Make before break: endpoints that leave a cluster stay until one that replaces them can serve.

A change that takes away everybody who serves, and brings others that still load their model, would
turn every request away for minutes. So while none of the endpoints that are wanted has passed a
health check, those that serve are kept, and the new ones are probed but get no request. It ends
when one of the new ones passes, when nobody who could be kept is left, or after the cluster's
``handover``. Clusters without health checks hand over at once: nobody would know when.

What is kept follows from what serves and what is wanted, so that an answer of discovery or a reload
in between needs no care; only since when is remembered. A plan changes nothing until it is brought
in force: a reload that is refused, or is still reading its files, leaves no trace.
"""

from collections.abc import Sequence

import msgspec

from router.config.build import endpoint_id
from router.config.clusters import ClusterSpec, EndpointSpec
from router.config.schema import Config
from router.control.journal import Tell, nobody
from router.control.roster import Roster
from router.telemetry.logs import logger


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A handover that is under way. ``since``: monotonic seconds."""

    since: float
    wanted: tuple[EndpointSpec, ...]
    kept: tuple[EndpointSpec, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to serve next, and who is kept for it by cluster."""

    config: Config
    held: dict[str, Held]


class Handover:
    """The handovers of all clusters.

    Args:
        roster: says who serves.
        tell: told of those that begin and end.

    Attributes:
        held: by cluster.
    """

    def __init__(self, roster: Roster, tell: Tell = nobody) -> None:
        self.held: dict[str, Held] = {}
        self._roster = roster
        self._tell = tell
        self._log = logger("handover")

    def plan(self, served: Config | None, wanted: Config, now: float) -> Plan:
        """Work out what is to serve next.

        Args:
            served: what does at present; None at the start, when nobody has to be kept.
            wanted: the configuration with its endpoints, those of discovery too.
            now: monotonic seconds.
        """
        before = {} if served is None else {spec.name: spec for spec in served.clusters}
        held: dict[str, Held] = {}
        clusters: list[ClusterSpec] = []
        for spec in wanted.clusters:
            kept = self._kept(spec, before[spec.name].endpoints) if spec.name in before else ()
            known = self.held.get(spec.name)
            since = now if known is None else known.since
            if kept and now - since < spec.handover:
                held[spec.name] = Held(since=since, wanted=spec.endpoints, kept=kept)
                endpoints = (*kept, *map(_waiting, spec.endpoints))
                clusters.append(msgspec.structs.replace(spec, endpoints=endpoints))
            else:
                clusters.append(spec)
        config = msgspec.structs.replace(wanted, clusters=tuple(clusters)) if held else wanted
        return Plan(config=config, held=held)

    def bring(self, plan: Plan, now: float) -> None:
        """The plan is in force from now on."""
        self._report(plan, now)
        self.held = plan.held

    def wanted(self, cluster: str, served: Config | None) -> tuple[EndpointSpec, ...]:
        """A cluster's endpoints without those that are kept; none if it does not serve."""
        if (held := self.held.get(cluster)) is not None:
            return held.wanted
        clusters = () if served is None else served.clusters
        return next((spec.endpoints for spec in clusters if spec.name == cluster), ())

    def _kept(self, spec: ClusterSpec, serving: Sequence[EndpointSpec]) -> tuple[EndpointSpec, ...]:
        """Those of ``serving`` that leave and have to stay."""
        expected = [one for one in spec.endpoints if not self._taken_out(spec.name, one)]
        if spec.health.active is None or not expected:
            return ()
        if any(self._proven(spec.name, one) for one in expected):
            return ()
        wanted = {endpoint_id(spec.name, one) for one in spec.endpoints}
        return tuple(
            one
            for one in serving
            if endpoint_id(spec.name, one) not in wanted and self._proven(spec.name, one)
        )

    def _proven(self, cluster: str, endpoint: EndpointSpec) -> bool:
        """Whether it passes its health checks, and may be given requests."""
        standing = self._roster.standings.get(endpoint_id(cluster, endpoint))
        if standing is None or self._taken_out(cluster, endpoint):
            return False
        return standing.healthy is True and not standing.ejected

    def _taken_out(self, cluster: str, endpoint: EndpointSpec) -> bool:
        """Whether the configuration or an operator wants it to get no request."""
        return (
            endpoint.drain or self._roster.wanted_state(endpoint_id(cluster, endpoint)) is not None
        )

    def _report(self, plan: Plan, now: float) -> None:
        for name in plan.held.keys() - self.held.keys():
            kept = [str(one.address) for one in plan.held[name].kept]
            self._log.warning("none of the new endpoints serves yet", cluster=name, kept=kept)
            self._tell("handover", cluster=name, state="began", kept=kept)
        for name in self.held.keys() - plan.held.keys():
            taken = round(now - self.held[name].since, 3)
            endpoints = [spec.endpoints for spec in plan.config.clusters if spec.name == name]
            served = any(self._proven(name, one) for found in endpoints for one in found)
            self._log.info("endpoints handed over", cluster=name, after=taken, served=served)
            self._tell("handover", cluster=name, state="ended", after=taken, served=served)

    def __repr__(self) -> str:
        return f"<Handover {sorted(self.held)}>"


def _waiting(endpoint: EndpointSpec) -> EndpointSpec:
    """It is probed, and gets no request."""
    return msgspec.structs.replace(endpoint, drain=True)
