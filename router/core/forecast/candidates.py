"""The endpoints that a request may go to, and which of them will answer first."""

from collections.abc import Sequence
from typing import Final

from router.core.clock import Rng
from router.core.forecast import cost
from router.core.forecast.forecast import Forecast
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK

SCAR: Final = 1.0
"""Seconds of the score for each failure of an endpoint that has not healed yet: one that refuses
at once has no work in line and must not look like the best for it."""

TRIED: Final = 1e6
"""Seconds of the score for an endpoint that the request has been to: it is the last resort."""


class Candidates:
    """Usable endpoints with their outlooks, as long as neither changes.

    Attributes:
        mask: the bits of their pages.
        version: the forecast's; at another one these are not the outlooks of today.
    """

    __slots__ = ("_forecast", "_last", "hosts", "mask", "outlooks", "version")

    def __init__(self, forecast: Forecast, hosts: Sequence[HostState]) -> None:
        heaviest = max((host.weight for host in hosts), default=1)
        self._forecast = forecast
        # What was found for a request that is about to be sent: the pick asks the same once more.
        self._last: tuple[LlmRequest | None, float, int, dict[int, float]] = (None, 0.0, 0, {})
        self.hosts = hosts
        self.outlooks = [forecast.of(host.endpoint.id) for host in hosts]
        self.version = forecast.version
        self.mask = 0
        for host, outlook in zip(hosts, self.outlooks, strict=True):
            self.mask |= 1 << outlook.page.index
            outlook.weigh(heaviest / host.weight)

    def soonest(
        self, request: LlmRequest, rng: Rng, tried: tuple[EndpointId, ...], now: float
    ) -> tuple[HostState, str]:
        """The endpoint with the least score, ties broken by weight; and why, in a few words."""
        asked, at, best, held = self._last
        if asked is not request or at != now or tried:
            best, held = self._best(request, rng, tried, now)
        return self.hosts[best], self._reason(held, held.get(self.outlooks[best].page.index, 0.0))

    def slack(self, hold_above: float, now: float) -> bool:
        """Whether an endpoint has no more than ``hold_above`` seconds of prompts in line."""
        if self._forecast.pace.silent:
            self._forecast.assume(now)
        for outlook in self.outlooks:
            empty_at, wait, *_ = outlook.folded
            if wait <= hold_above and empty_at - now <= hold_above:
                return True
        return False

    def held_up(self, request: LlmRequest, rng: Rng, hold_above: float, now: float) -> float | None:
        """Seconds that its prompt would take to compute at the endpoint that is best now.

        None: that has no more than ``hold_above`` seconds in line.
        """
        best, held = self._best(request, rng, (), now)
        self._last = request, now, best, held
        outlook = self.outlooks[best]
        if outlook.wait(now) <= hold_above:
            return None
        forecast = self._forecast
        blocks = held.get(outlook.page.index, 0.0)
        cached = blocks * BLOCK / request.prompt_bytes if blocks else 0.0
        return outlook.pace * forecast.cost(forecast.tokens(request), cached, outlook.step)

    def _best(
        self, request: LlmRequest, rng: Rng, tried: tuple[EndpointId, ...], now: float
    ) -> tuple[int, dict[int, float]]:
        """Its position, and the blocks that endpoints are expected to hold."""
        forecast = self._forecast
        tokens = forecast.tokens(request)
        computing = cost.prefill(tokens, tokens, forecast.quadratic)
        steps = cost.steps(tokens)
        held: dict[int, float] = {}
        if request.prompt_bytes and forecast.trust.believed:
            held = forecast.expected(request, self.mask)
        if forecast.pace.silent:
            forecast.assume(now)
        hosts = self.hosts
        best, least, ties, position = 0, 1e300, 0, -1
        for outlook in self.outlooks:
            position += 1
            empty_at, wait, step, factor, burden, share = outlook.folded
            wait = max(wait, empty_at - now)
            own = computing + steps * step
            if held and (blocks := held.get(outlook.page.index, 0.0)):
                own = forecast.cost(tokens, blocks * BLOCK / request.prompt_bytes, step)
            score = own * factor + burden + wait * share
            if score > least:
                continue
            host = hosts[position]
            if host.scars:
                score += SCAR * host.scars
            if tried and host.endpoint.id in tried:
                score += TRIED
            if score < least:
                best, least, ties = position, score, host.weight
            elif score == least:
                ties += host.weight
                if rng.random() * ties < host.weight:
                    best = position
        return best, held

    def _reason(self, held: dict[int, float], blocks: float) -> str:
        if not held:
            believed = self._forecast.trust.believed
            return "new prefix, least work" if believed else "least work, caches unpredictable"
        return "prefix hit" if blocks >= max(held.values()) else "moved, sooner elsewhere"

    def __repr__(self) -> str:
        return f"<Candidates {len(self.hosts)} hosts, version={self.version}>"
