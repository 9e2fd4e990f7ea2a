"""Which buckets requests of a kind draw on, found out once for each kind.

Requests of a route and a tenant that have the same values of their limits' descriptors draw on the
same buckets. Their keys need not be hashed again for each of them.
"""

from typing import Final

from router.core.admission.rate_limit import Descriptor, RateLimit
from router.core.admission.token_bucket import Draw
from router.core.model import LlmRequest

PLANS: Final = 8192
"""Plans that are kept, of descriptors' values and of routes and tenants each; beyond it the
oldest goes, to be made again."""


class Plan:
    """What the limits of a request take of which buckets.

    Attributes:
        here, everywhere: the limits that apply, of this machine and of all routers.
        here_draws, everywhere_draws: theirs. Those of LLM tokens take all that fits.
        tokens: whether one of them counts LLM tokens.
    """

    __slots__ = ("everywhere", "everywhere_draws", "here", "here_draws", "tokens")

    def __init__(self, limits: tuple[RateLimit, ...], request: LlmRequest) -> None:
        here: list[tuple[RateLimit, Draw]] = []
        everywhere: list[tuple[RateLimit, Draw]] = []
        self.tokens = False
        for limit in limits:
            key = limit.key(request)
            if key is None:
                continue
            tokens = limit.unit == "tokens"
            self.tokens = self.tokens or tokens
            amount = limit.bucket.capacity if tokens else 1.0
            draw = Draw(key, limit.bucket, amount, limit.enforce)
            (everywhere if limit.scope == "global" else here).append((limit, draw))
        self.here = tuple([limit for limit, _ in here])
        self.here_draws = tuple([draw for _, draw in here])
        self.everywhere = tuple([limit for limit, _ in everywhere])
        self.everywhere_draws = tuple([draw for _, draw in everywhere])


def draws_for(
    tokens: float, limits: tuple[RateLimit, ...], draws: tuple[Draw, ...]
) -> tuple[Draw, ...]:
    """The draws of a request that may come to so many LLM tokens: never more than what fits, or
    it would wait for ever."""
    found: list[Draw] = []
    for index in range(len(limits)):
        limit, draw = limits[index], draws[index]
        if limit.unit == "tokens" and tokens < draw.amount:
            found.append(Draw(draw.key, draw.spec, tokens, draw.binding))
        else:
            found.append(draw)
    return tuple(found)


class Group:
    """Requests of one route and tenant.

    Args:
        of_route: those of the route and of the cluster it goes to; with others of the same name
            it is another group.
        of_tenant: the tenant's.
    """

    __slots__ = ("descriptors", "limits", "of_route", "plan")

    def __init__(self, of_route: tuple[RateLimit, ...], of_tenant: tuple[RateLimit, ...]) -> None:
        self.of_route = of_route
        self.limits = of_route + of_tenant
        self.descriptors: tuple[Descriptor, ...] = tuple(
            dict.fromkeys(descriptor for limit in self.limits for descriptor in limit.per)
        )
        self.plan: Plan | None = None


class Plans:
    """All that are known. One for a process, emptied by a reload."""

    __slots__ = ("_groups", "_plans")

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None], Group] = {}
        self._plans: dict[tuple[object, ...], Plan] = {}

    def clear(self) -> None:
        self._groups.clear()
        self._plans.clear()

    def find(
        self,
        route: str,
        of_route: tuple[RateLimit, ...],
        of_tenant: tuple[RateLimit, ...] | None,
        request: LlmRequest,
    ) -> Plan:
        """The plan of a request.

        Args:
            route: names its route, and the cluster if that has limits.
            of_tenant: None if its tenant has no limits.
        """
        which = (route, None if of_tenant is None else request.tenant)
        group = self._groups.get(which)
        if group is None or group.of_route is not of_route:
            group = self._groups[which] = Group(of_route, of_tenant or ())
            if len(self._groups) > PLANS:
                del self._groups[next(iter(self._groups))]
        if not group.descriptors:
            if group.plan is None:
                group.plan = Plan(group.limits, request)
            return group.plan
        values = (group, *[descriptor.of(request) for descriptor in group.descriptors])
        plan = self._plans.get(values)
        if plan is None:
            plan = self._plans[values] = Plan(group.limits, request)
            if len(self._plans) > PLANS:
                del self._plans[next(iter(self._plans))]
        return plan

    def __len__(self) -> int:
        return len(self._plans)

    def __repr__(self) -> str:
        return f"<Plans {len(self._plans)} of {len(self._groups)} groups>"
