"""The shipped canary policy, as it is, beside an Envoy configured as Istio does it.

The recorded Envoy had a cluster for each subset, least-request balancing, no panic, outlier
detection, retries and one local rate limit: what istiod makes of the same words in a
VirtualService, a DestinationRule and an EnvoyFilter.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from tests.oracle.document import Outcomes, compare, near
from tests.oracle.runner import Answer, Scenario, envoys_outcome
from tests.oracle.test_endpoints import played
from tests.oracle.virtual_time import in_virtual_time

POLICY = Path(__file__).parents[2] / "policies/canary.yaml"
PLACES = {"10.0.0.1": "s1", "10.0.0.2": "s2", "10.0.0.3": "c1", "10.0.0.4": "c2"}
VERSIONS = {"s": "v1", "c": "v2"}
PINNED = {"x-model-version": "v2"}


class Canary(Scenario):
    """The scenario under the policy, with backends where its endpoints are."""

    async def text(self) -> str:
        await self.configuration()
        text = POLICY.read_text()
        # The recorded Envoy checked nobody's health and read no metrics.
        changes = {"    health:\n": "    scrape: off\n    health:\n      active: off\n"}
        for host, backend in PLACES.items():
            changes[f"{host}:8000"] = f"127.0.0.1:{self.backends[backend].port}"
        for old, new in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        return text


@in_virtual_time
async def test_the_canary_policy_does_what_istio_does() -> None:
    outcomes: Outcomes = {}
    tag = ""
    async with Canary("canary") as scenario:
        for step, came in await played(scenario):
            observed = step["observed"]
            if "hosts" in step:
                theirs = [host for hosts in observed["ejected"].values() for host in hosts]
                ejected = (", ".join(theirs), ", ".join(came["llama-8b"]))
                outcomes[f"{tag}: ejected"] = ejected
                continue
            tag = step["requests"]["tag"]
            outcomes[tag] = await _pair(scenario, step, came)
    compare("canary", outcomes)


async def _pair(scenario: Scenario, step: dict[str, Any], answers: list[Answer]) -> tuple[str, str]:
    """What became of a step's requests there and here; the same text where only chance differs."""
    observed, pinned = step["observed"], step["requests"].get("headers") == PINNED
    if "requests" not in observed:
        assert {answer.status for answer in answers} == {200}
        envoys = Counter(observed["backends"])
        return near(_shares(envoys), _shares(answer.backend for answer in answers), points=8)
    rows = observed["requests"]
    ours = [await scenario.outcome(answer) for answer in answers]
    theirs = [envoys_outcome(row) for row in rows]
    if not pinned:
        return _text(theirs, ()), _text(ours, ())
    there = {row["backend"] for row in rows}
    return _text(theirs, there), _text(ours, {answer.backend for answer in answers})


def _text(outcomes: list[str], backends: Collection[str | None]) -> str:
    """How many ended how, and where. Whether a request met a failure first is chance."""
    counts = Counter(outcome.removesuffix(" x2") for outcome in outcomes)
    retried = any(outcome.endswith(" x2") for outcome in outcomes)
    words = [f"{count} x {outcome}" for outcome, count in sorted(counts.items())]
    versions = sorted({VERSIONS[name[0]] for name in backends if name})
    return ", ".join([*words, *versions, *(["some retried"] if retried else [])])


def _shares(backends: Iterable[str | None]) -> dict[str, float]:
    """Percent by version."""
    names = list(backends.elements() if isinstance(backends, Counter) else backends)
    return {
        version: 100 * sum(str(name)[0] == letter for name in names) / len(names)
        for letter, version in VERSIONS.items()
    }
