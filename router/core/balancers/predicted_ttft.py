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

from typing import Annotated

import msgspec

from router.core.balancers.base import Balancer, BalancerSpec
from router.core.balancers.first_token import FirstToken
from router.core.clock import Rng
from router.core.duration import Duration, Interval
from router.core.forecast.forecast import Forecast
from router.core.forecast.outlook import Terms
from router.core.memory import ClusterMemory

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
            forecast = memory.keep(Forecast)
            forecast.tune(
                Terms(self.work_weight, self.interference, float(self.decode_weight)),
                float(self.quadratic_tokens),
                self.max_entries,
            )
            return FirstToken(forecast, float(self.hold_above))
