"""Where the first token will come soonest, and others' first tokens suffer least.

For each endpoint the time until a newcomer's prompt would be begun (the work in line there, see
``router.core.forecast.outlook``), the time to compute what of the prompt it does not hold in its
cache (``router.core.prefix.mirror``), and what that would do to the others: whoever comes next
waits for it too, so own work counts ``1 + work_weight`` times, and decoding sequences slow down and
are slowed. The least sum wins. All of it is learned from answers that the router sees anyway;
metrics pages, KV events and answers' load reports only make it better.

Neither affinity nor balance is a goal here: a prompt follows its prefix for as long as that is
fastest, and no longer. docs/warm-path.md shows how it decides and what that was measured to be
worth.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from router.core.balancers.base import Accounts, Balancer, BalancerSpec, Scores
from router.core.clock import Rng
from router.core.duration import Duration, Interval
from router.core.forecast.candidates import Candidates
from router.core.forecast.forecast import Forecast
from router.core.forecast.outlook import Terms
from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK

Factor = Annotated[float, msgspec.Meta(ge=0, le=1000)]


class PredictedTtft:
    class Spec(BalancerSpec, frozen=True, kw_only=True, tag="predicted_ttft"):
        """The endpoint that is predicted to give the first token soonest.

        ``work_weight``: what a second of computing the request's own prompt counts for beside a
        second of waiting, in excess of 1; more follows caches further, less levels load.
        ``interference``: by how much own work counts more for each sequence in decode there; from
        0.2 on long prompts are kept away from short ones, at the price of their own p99.
        ``decode_weight``: what each sequence in decode counts for. ``quadratic_tokens``: context at
        which attention costs as much as all else (17000 for 8 billion parameters, more for larger
        models). ``max_entries``: pairs of prefix and endpoint that are remembered for the cluster,
        at about 140 bytes. ``hold_above``: late binding; while the endpoint of choice has more than
        so much prefill in line, a request is held in the router's queue, which lets go by response
        ratio (short ones soon, long ones when they have waited for long); 0 sends at once. 80ms to
        300ms do equally well.
        """

        reads_prompt = True

        work_weight: Factor = 1.5
        interference: Factor = 0.01
        decode_weight: Interval = Interval(0.01)
        hold_above: Duration = Duration(0)
        quadratic_tokens: Annotated[int, msgspec.Meta(ge=100, le=10_000_000)] = 17_000
        max_entries: Annotated[int, msgspec.Meta(ge=1000, le=100_000_000)] = 1_000_000

        def build(self, rng: Rng, memory: ClusterMemory) -> Balancer:
            return PredictedTtft(self, memory.keep(Forecast))

    __slots__ = ("_candidates", "_forecast", "_hosts", "hold_above")

    def __init__(self, spec: Spec, forecast: Forecast) -> None:
        forecast.tune(
            Terms(spec.work_weight, spec.interference, float(spec.decode_weight)),
            float(spec.quadratic_tokens),
            spec.max_entries,
        )
        self.hold_above = float(spec.hold_above)
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
        return f"<PredictedTtft {len(self._hosts)} hosts, {self._forecast!r}>"
