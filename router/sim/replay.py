"""A recorded hour once more: as it was, and under other policies.

The log has the first word: what it says happened is measured exactly as a simulated run is, over
the same stretch of time, so that a reader sees how well the simulator knows these engines before
he believes what it says of other policies.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from router.sim import in_force
from router.sim.access_log import Log
from router.sim.configured import Settings
from router.sim.curves import Curves, curves
from router.sim.fit import Fit
from router.sim.measures import WARM_UP, Measures, measure
from router.sim.profile import Profile
from router.sim.recording import Recording
from router.sim.scenario import Policy, Scenario
from router.sim.study import Result, Study, Traffic
from router.sim.summary import Estimate, summarize
from router.sim.trace import Trace

AS_IT_WAS: Final = "as_it_was"
OTHERWISE: Final = "otherwise"

HITS_APART: Final = 0.05
"""Difference in the share of cached tokens from which a reader is warned."""

TIMES_APART: Final = 1.5
"""Ratio of times to the first token from which he is."""


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replayed.

    Attributes:
        recording: what was asked.
        path, trace: its file, and what was read back from there.
        profile: the engines.
        endpoints: how many of them there are to be.
        load: times the recorded one.
        was: the policy in force, None where nobody knows.
        policies: others to try.
        prefix: whether prompts' beginnings are known.
        drawn: whether there is to be a picture.
    """

    recording: Recording
    path: Path
    trace: Trace
    profile: Profile
    endpoints: int
    load: float
    seeds: int
    was: Policy | None
    policies: tuple[Policy, ...]
    given: Settings | None
    prefix: bool
    drawn: bool

    @property
    def unchanged(self) -> bool:
        """Whether other policies meet what the one in force met."""
        return self.load == 1 and self.endpoints == self.recording.endpoints

    @property
    def begin(self) -> float:
        """Seconds until which caches only fill."""
        return WARM_UP * self.trace.span

    def studies(self) -> dict[str, Study]:
        """By ``AS_IT_WAS``, the policy in force at the recorded load and endpoints, if it is known,
        and ``OTHERWISE``, what else is asked for, if anything is."""
        found = {}
        policies = self.policies
        if self.was is not None and self.recording.endpoints:
            found[AS_IT_WAS] = self._study([self.was], 1.0, self.recording.endpoints)
            if self.unchanged:
                policies = tuple(one for one in policies if one.name != self.was.name)
        if policies:
            found[OTHERWISE] = self._study(policies, self.load, self.endpoints)
        return found

    def curves(self, results: Mapping[str, Sequence[Result]]) -> dict[str, list[Curves]]:
        """By what the picture calls them, of each seed; the log's own first."""
        outcomes, span = self.recording.outcomes, self.trace.span
        found = {"the log": [curves(outcomes, self.begin, span)]}
        for part, study in self.studies().items():
            for scenario, run in zip(study.scenarios, results[part], strict=True):
                assert run.curves is not None
                name = scenario.policy.name
                if part == AS_IT_WAS and not self.unchanged:
                    name += " as it was"
                found.setdefault(name, []).append(run.curves)
        return found

    def summary(self, runs: Sequence[Measures]) -> dict[str, Estimate]:
        """Of some seeds. Without names nothing can be found in a cache, which is no finding."""
        found = dict(summarize(runs))
        if not self.prefix:
            found["hit_rate"] = found["computed_tokens"] = Estimate(None, None)
        return found

    def _study(self, policies: Sequence[Policy], load: float, endpoints: int) -> Study:
        recording = self.recording
        template = Scenario(
            policy=policies[0],
            replicas=(self.profile,) * endpoints,
            block=recording.header.block,
            block_bytes=recording.header.block_bytes,
            seed=0,
            streaming=1.0 if any(row.stream for row in recording.rows) else 0.0,
        )
        if self.given is not None:
            template = self.given.applied(template)
        traffic = Traffic(
            trace=self.path,
            rate=load * self.trace.rate,
            duration=self.trace.span,
            smooth=False,
            turned=False,
        )
        scenarios = tuple(
            msgspec.structs.replace(template, policy=policy, seed=seed)
            for seed in range(1, self.seeds + 1)
            for policy in policies
        )
        return Study(traffic=traffic, base=self.profile, scenarios=scenarios, curves=self.drawn)


def logged(recording: Recording, profile: Profile, begin: float) -> dict[str, Estimate]:
    """What the log says happened, in the stretch that is measured of a simulated run.

    Args:
        profile: whose cold prefill times are compared to.
        begin: seconds from which on it is measured.
    """
    found = measure(recording.outcomes, profile, begin)
    told = dict(summarize([found]))
    hits = recording.hit_rate(begin)
    told["hit_rate"] = Estimate(hits, None)
    computed = None if hits is None else round(found.prompt_tokens * (1 - hits))
    told["computed_tokens"] = Estimate(computed, None)
    return told


def doubts(said: Mapping[str, Estimate], simulated: Mapping[str, Estimate]) -> list[str]:
    """Where the simulator is far from what happened, in sentences."""
    found = []
    real, mean = said["hit_rate"].mean, simulated["hit_rate"].mean
    if real is not None and mean is not None and abs(real - mean) > HITS_APART:
        found.append(
            f"{mean:.3f} of the prompt tokens are found in simulated caches, {real:.3f} were in "
            "fact: has an engine as much room as the profile (--kv-tokens)?"
        )
    for name, words in (("ttft_p50", "median"), ("ttft_mean", "mean"), ("ttft_p99", "p99")):
        real, mean = said[name].mean, simulated[name].mean
        if real and mean and max(real / mean, mean / real) > TIMES_APART:
            found.append(
                f"the {words} of TTFT is {mean:.3g} s simulated and {real:.3g} s in the log: "
                "compare policies with each other, not with the log (--fit may help)"
            )
            break
    return found


def _misnamed(replay: Replay) -> list[str]:
    """Whether the log's reasons are another balancer's than that which is said to be in force."""
    guessed = in_force.policy(replay.recording.reasons)
    if guessed is None or replay.was is None:
        return []
    names = [name.partition(":")[0] for name in (guessed, replay.was.name)]
    if names[0] == names[1]:
        return []
    return [f"{names[1]} is said to have been in force, but the log's reasons are {names[0]}'s"]


def report(
    replay: Replay, log: Log, fitted: Fit | None, results: Mapping[str, Sequence[Result]]
) -> dict[str, Any]:
    """All of it, as plain data.

    Args:
        results: of the studies, by their names.
    """
    recording = replay.recording
    said = logged(recording, replay.profile, replay.begin)
    rows: dict[str, list[Measures]] = {}
    as_it_was = None
    if AS_IT_WAS in results:
        assert replay.was is not None
        runs = [run.phases[0] for run in results[AS_IT_WAS]]
        as_it_was = replay.summary(runs)
        if replay.unchanged:
            rows[replay.was.name] = runs
    if OTHERWISE in results:
        scenarios = replay.studies()[OTHERWISE].scenarios
        for scenario, run in zip(scenarios, results[OTHERWISE], strict=True):
            rows.setdefault(scenario.policy.name, []).append(run.phases[0])
    begin = datetime.fromtimestamp(log.entries[0].at / 1000, UTC)
    told = {
        "cluster": log.entries[0].line.cluster,
        "lines": log.lines,
        "replayed": len(recording.rows),
        "excluded": dict(log.excluded.most_common()),
        "estimated": recording.estimated,
        "from": begin.isoformat(timespec="milliseconds"),
        "duration": replay.trace.span,
        "measured_from": replay.begin,
        "rate": replay.trace.rate,
        "endpoints": recording.endpoints,
        "load": replay.load,
        "replicas": replay.endpoints,
        "fit": fitted,
        "in_force": None if replay.was is None else replay.was.name,
        "doubts": [
            *_misnamed(replay),
            *([] if as_it_was is None else doubts(said, as_it_was)),
        ],
        "logged": said,
        "as_it_was": as_it_was,
        "policies": [
            {"policy": name, "measures": replay.summary(runs), "runs": runs}
            for name, runs in rows.items()
        ],
    }
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain
