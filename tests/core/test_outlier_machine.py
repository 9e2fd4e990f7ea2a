"""Whatever fails in whatever order: never too many out, none for ever, and the books balance."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core.health.outlier import FailurePercentage, FirstByteLatency, Outlier, SuccessRate
from router.core.health.statistics import Tally
from router.core.model import EndpointId
from tests.core.outliers import Watched

POLICIES = st.builds(
    Outlier,
    consecutive_5xx=st.integers(0, 4),
    consecutive_gateway_failure=st.integers(0, 4),
    consecutive_local_origin_failure=st.integers(0, 4),
    enforcing_consecutive_5xx=st.sampled_from([0.0, 50.0, 100.0]),
    enforcing_consecutive_gateway_failure=st.sampled_from([0.0, 100.0]),
    split_external_local_origin_errors=st.booleans(),
    interval=st.sampled_from([0.5, 1.0, 10.0]),
    base_ejection_time=st.sampled_from([0.5, 1.0, 7.0]),
    max_ejection_time=st.sampled_from([7.0, 20.0]),
    max_ejection_time_jitter=st.sampled_from([0.0, 2.0]),
    max_ejection_percent=st.sampled_from([0.0, 10.0, 34.0, 50.0, 100.0]),
    always_eject_one_host=st.booleans(),
    success_rate=st.none() | st.just(SuccessRate(minimum_hosts=2, request_volume=1)),
    failure_percentage=st.none() | st.just(FailurePercentage(minimum_hosts=1, request_volume=1)),
    latency=st.none() | st.just(FirstByteLatency(minimum_hosts=2, request_volume=1)),
)
TALLIES = st.builds(
    Tally,
    answered_well=st.integers(0, 9),
    answered_badly=st.integers(0, 9),
    unanswered=st.integers(0, 9),
    streams=st.integers(0, 3),
    first_byte_seconds=st.floats(0, 30),
)


class Faults(RuleBasedStateMachine):
    """Answers, silences, rates, time and reloads, interleaved at will."""

    @initialize(size=st.integers(1, 6), policy=POLICIES)
    def configure(self, size: int, policy: Outlier) -> None:
        self.watched = Watched(size, policy)
        self.seen = 0

    @rule(index=st.integers(0, 5), statuses=st.lists(st.sampled_from([0, 200, 429, 500, 503])))
    def answer(self, index: int, statuses: list[int]) -> None:
        names = self.watched.names
        for status in statuses:
            self.watched.answers(names[index % len(names)], status)
            self.look()

    @rule(index=st.integers(0, 5), tally=TALLIES)
    def count(self, index: int, tally: Tally) -> None:
        self.watched.tallies[EndpointId(f"b{index}")] = tally

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.9, 30.0]))
    def wait(self, seconds: float) -> None:
        self.watched.at(self.watched.clock.now() + seconds)
        self.look()

    @rule(index=st.integers(0, 5))
    def pass_health_check(self, index: int) -> None:
        self.watched.health_check_passes(f"b{index}")

    @rule(size=st.integers(1, 6), policy=POLICIES)
    def reload(self, size: int, policy: Outlier) -> None:
        self.watched.names = [EndpointId(f"b{index}") for index in range(size)]
        self.watched.slots = {name: slot for slot, name in enumerate(self.watched.names)}
        self.watched.reload(policy)

    def look(self) -> None:
        """No new ejection beyond what is allowed."""
        fresh = self.watched.events[self.seen :]
        self.seen = len(self.watched.events)
        if any(event.action == "eject" and event.enforced for _, event in fresh):
            policy, size = self.watched.policy, len(self.watched.names)
            allowed = int(size * policy.max_ejection_percent / 100 + 1e-9)
            if policy.always_eject_one_host:
                allowed = max(1, allowed)
            # Those that an earlier, laxer policy ejected may be out beyond it, but not with new.
            assert len(self.watched.out) <= allowed

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "watched"):
            return
        watched, detector = self.watched, self.watched.detector
        assert detector.active == len(watched.out)
        assert set(detector.records) == set(watched.names)
        enforced = [e for _, e in watched.events if e.action == "eject" and e.enforced]
        logged = [e for _, e in watched.events if e.action == "eject"]
        assert sum(detector.enforced.values()) == len(enforced)
        assert sum(detector.detected.values()) == len(logged) + detector.overflow
        for record in detector.records.values():
            assert 0 <= record.backoff <= record.ejections
            assert record.ejected is (record.ejected_at is not None)

    def teardown(self) -> None:
        if not hasattr(self, "watched"):
            return
        policy = self.watched.policy
        for record in self.watched.detector.records.values():
            if record.ejected:
                longest = policy.max_ejection_time + 2.0  # jitter of any policy
                assert record.due(policy) - self.watched.clock.now() <= longest
        self.watched.tallies = {}
        self.watched.at(self.watched.clock.now() + policy.max_ejection_time + 2.0)
        self.watched.at(self.watched.clock.now() + 2 * policy.interval)
        assert self.watched.out == set(), "without failures everybody comes back"


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
