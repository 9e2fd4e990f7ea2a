"""What a balancer is. It chooses; it does not filter: the hosts it gets may all be used."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from router.core.clock import Rng
from router.core.host import HostState, Work
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest


class Balancer(Protocol):
    """Small, with state of its own. One per cluster or subset and process."""

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        """Choose a host and say why in a few words.

        Args:
            hosts: at least one; the same tuple object until membership or health changes.
            tried: endpoints this request has been to. Honouring it is optional: the director
                asks again, then decides itself.
            now: monotonic seconds; only balancers that learn or warm up over time look at it.
        """
        ...


@runtime_checkable
class Keyed(Protocol):
    """A balancer that places a request by a key of it, so that the same key goes the same way."""

    def key_of(self, request: LlmRequest) -> int | None:
        """64 bits, or None for a request that has no key."""
        ...


class Accounts(Protocol):
    """Follows every attempt that a cluster's endpoints are given, for balancers that learn."""

    def begin(self, request: LlmRequest, host: HostState, now: float) -> Work:
        """An attempt is about to be sent to ``host``, whoever chose it."""
        ...


@runtime_checkable
class Accounting(Protocol):
    """A balancer whose picks rest on what became of attempts."""

    @property
    def accounts(self) -> Accounts:
        """The cluster's; the same object for all balancers of its memory."""
        ...


@runtime_checkable
class LateBinding(Protocol):
    """A balancer that would rather have requests wait in the router than at a busy endpoint.

    Attributes:
        hold_above: seconds of work in line at an endpoint from which it does; 0: never.
    """

    hold_above: float

    def slack(self, hosts: Sequence[HostState], now: float) -> bool:
        """Whether any request could be sent at all. Cheap."""
        ...

    def held_up(
        self, request: LlmRequest, hosts: Sequence[HostState], rng: Rng, now: float
    ) -> float | None:
        """Seconds that the request's own work would take, if it should wait; None: send it."""
        ...


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What a balancer says of a request before it picks.

    ``notes`` are of the request; ``hosts`` has columns by endpoint, which may lack some.
    """

    notes: Mapping[str, float | str] = {}
    hosts: Mapping[EndpointId, Mapping[str, float | str]] = {}


@runtime_checkable
class Explaining(Protocol):
    """A balancer that can say what its pick rests on."""

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """Changes nothing. ``hosts``: at least one, those that ``pick`` would be given."""
        ...


class BalancerSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of the balancers' configuration."""

    @property
    def reads_prompt(self) -> bool:
        """Whether picks rest on ``LlmRequest.checkpoints``; faces make them only where one does.

        A class attribute of that name will do where it is always so.
        """
        return False

    @property
    def reads_conversation(self) -> bool:
        """Whether picks may rest on ``LlmRequest.prefix_hash``; faces hash only where one does.

        A class attribute of that name will do where it is never so.
        """
        return True

    def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
        """Make a balancer.

        Args:
            memory: what balancers of this cluster remember.
        """
        raise NotImplementedError
