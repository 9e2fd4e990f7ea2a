"""How fast the engines of a recording are, by the requests that met one with nothing else to do.

Two figures are fitted, both as a share of the profile's own: what a step of decoding takes (median
of the answers' time between tokens), and what a prompt token takes (Theil and Sen's slope of the
time to the first token over the profile's prefill of what was not cached, so that a few requests
that had to wait after all do not count). What of the time no prompt explains (a network, a
tokenizer) is told, but the simulator has no such time.
"""

from itertools import combinations
from statistics import median
from typing import Final

import msgspec

from router.sim.outcome import End, Outcome
from router.sim.profile import PICOSECONDS, Profile
from router.sim.recording import Recording
from router.sim.trace import TraceError

FEWEST: Final = 20
"""Requests from which a slope can be believed."""

MOST: Final = 400
"""Requests that are looked at: all pairs of them are."""

SPREAD: Final = 0.02
"""Seconds between the short and the long prefills, at least: else there is no slope to see."""

FLUENT: Final = 8
"""Tokens from which an answer tells what a step takes."""


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """``prefill`` and ``decode``: times of the profile's, 2 being half as fast.

    Attributes:
        overhead: seconds to the first token that neither a step nor the prompt explains.
        requests: that told.
    """

    prefill: float
    decode: float
    overhead: float
    requests: int

    def applied(self, profile: Profile) -> Profile:
        return msgspec.structs.replace(
            profile,
            step=round(profile.step * self.decode),
            per_decode=round(profile.per_decode * self.decode),
            per_kv_token=round(profile.per_kv_token * self.decode),
            per_prefill_token=round(profile.per_prefill_token * self.prefill),
            per_token_context=round(profile.per_token_context * self.prefill),
        )


def fit(recording: Recording, profile: Profile) -> Fit:
    """The engines' speed.

    Raises:
        TraceError: the recording does not tell.
    """
    lone = [
        one
        for index in recording.lone
        if (one := recording.outcomes[index]).end is End.DONE
        and one.arrival.stream
        and index in recording.known_cached
    ]
    answers = [one for one in lone if one.arrival.answer >= FLUENT]
    if min(len(lone), len(answers)) < FEWEST:
        raise TraceError(
            f"--fit needs {FEWEST} streamed requests with cached_tokens and answers of {FLUENT} "
            f"tokens that met an idle endpoint; there are {min(len(lone), len(answers))}"
        )
    decode = median(_between(one) / _step(one, profile) for one in answers)
    step = round(profile.step * decode)
    points = sorted(_point(one, profile, step) for one in lone)
    points = (
        [points[len(points) * n // MOST] for n in range(MOST)] if len(points) > MOST else points
    )
    tenth = len(points) // 10
    if points[-1 - tenth][0] - points[tenth][0] < SPREAD:
        raise TraceError("--fit needs prompts of different lengths that met an idle endpoint")
    slope = median(
        (late - early) / (long - short)
        for (short, early), (long, late) in combinations(points, 2)
        if long > short
    )
    if slope <= 0 or decode <= 0:
        raise TraceError("--fit: times to the first token do not grow with the prompts")
    overhead = median(time - slope * work for work, time in points)
    return Fit(prefill=slope, decode=decode, overhead=max(0.0, overhead), requests=len(lone))


def _between(one: Outcome) -> float:
    """Tokens of its answer, in picoseconds."""
    return (one.done - one.first) / (one.arrival.answer - 1)


def _step(one: Outcome, profile: Profile) -> int:
    """What a step takes by the profile, half way through its answer."""
    return profile.step + profile.decode(1, one.arrival.prompt + one.arrival.answer // 2)


def _point(one: Outcome, profile: Profile, step: int) -> tuple[float, float]:
    """Seconds that its prompt takes by the profile, and that it took, steps apart."""
    computed = max(1, one.arrival.prompt - one.cached)
    steps = -(-computed // profile.step_tokens) * step
    took = one.first - one.arrival.at - steps
    return profile.prefill(computed, one.cached) / PICOSECONDS, took / PICOSECONDS
