"""How ``predicted_ttft`` picks. Apart from its Spec so that it compiles, see ADR 14."""

from collections.abc import Sequence

from router.core.balancers.base import Accounts, Scores
from router.core.clock import Rng
from router.core.forecast.candidates import Candidates
from router.core.forecast.forecast import Forecast
from router.core.host import HostState
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK


class FirstToken:
    """A ``Balancer``; ``PredictedTtft.Spec`` says what it weighs.

    Args:
        forecast: tuned to what the spec says.
        hold_above: seconds of prefill in line; 0 sends at once.
    """

    __slots__ = ("_candidates", "_forecast", "_hosts", "hold_above")

    def __init__(self, forecast: Forecast, hold_above: float) -> None:
        self.hold_above = hold_above
        self._forecast = forecast
        self._hosts: Sequence[HostState] = ()
        self._candidates = Candidates(forecast, ())

    @property
    def accounts(self) -> Accounts:
        return self._forecast

    def pick(
        self,
        request: LlmRequest,
        hosts: Sequence[HostState],
        rng: Rng,
        tried: tuple[EndpointId, ...] = (),
        now: float = 0.0,
    ) -> tuple[HostState, str]:
        return self._among(hosts).soonest(request, rng, tried, now)

    def slack(self, hosts: Sequence[HostState], now: float) -> bool:
        return self._among(hosts).slack(self.hold_above, now)

    def held_up(
        self, request: LlmRequest, hosts: Sequence[HostState], rng: Rng, now: float
    ) -> float | None:
        return self._among(hosts).held_up(request, rng, self.hold_above, now)

    def explain(self, request: LlmRequest, hosts: Sequence[HostState]) -> Scores:
        """Seconds, as they were when something last happened at each endpoint."""
        forecast, candidates = self._forecast, self._among(hosts)
        tokens = forecast.tokens(request)
        held = forecast.expected(request, candidates.mask)
        believed = forecast.trust.believed
        notes: dict[str, float | str] = {
            "prompt_tokens": round(tokens),
            "checkpoints": len(request.checkpoints),
            "mirror": "believed" if believed else "not believed",
        }
        columns: dict[EndpointId, dict[str, float | str]] = {}
        for host, outlook in zip(hosts, candidates.outlooks, strict=True):
            blocks = held.get(outlook.page.index, 0.0)
            cached = blocks * BLOCK / request.prompt_bytes if blocks else 0.0
            own = forecast.cost(tokens, cached if believed else 0.0, outlook.step)
            _, least, _, factor, burden, share = outlook.folded
            columns[host.id] = {
                "cached_tokens": round(cached * tokens),
                "queued_s": outlook.pace * (outlook.queued + outlook.foreign),
                "own_s": outlook.pace * own,
                "decoding": outlook.decoding,
                "pace": outlook.pace,
                "score": own * factor + burden + least * share,
            }
            if outlook.unheard:
                columns[host.id]["unheard_s"] = outlook.unheard
        return Scores(notes=notes, hosts=columns)

    def _among(self, hosts: Sequence[HostState]) -> Candidates:
        if hosts is not self._hosts or self._candidates.version != self._forecast.version:
            self._hosts = hosts
            self._candidates = Candidates(self._forecast, hosts)
        return self._candidates

    def __repr__(self) -> str:
        return f"<FirstToken {len(self._hosts)} hosts, {self._forecast!r}>"
