"""What counts as a failure in a row, and what ends the row."""

from collections import defaultdict

import pytest

from router.core.health.monitor import FailureMonitor
from router.core.health.outlier import Detector, Outlier
from router.core.model import EndpointId

SERVER = Detector.CONSECUTIVE_5XX
GATEWAY = Detector.CONSECUTIVE_GATEWAY_FAILURE
LOCAL = Detector.CONSECUTIVE_LOCAL_ORIGIN_FAILURE
TRUNCATED = Detector.CONSECUTIVE_TRUNCATED


class Watch:
    def __init__(self, policy: Outlier | None = None) -> None:
        self.words: dict[int, int] = defaultdict(int)
        self.found: list[Detector] = []
        self.policy = policy or Outlier()
        self.monitor = self.another()

    def another(self, policy: Outlier | None = None) -> FailureMonitor:
        return FailureMonitor(
            EndpointId("c/h:80"), 7, self.words, policy or self.policy, lambda _, d: self._note(d)
        )

    def _note(self, detector: Detector) -> None:
        self.found.append(detector)

    def feed(self, *happenings: int | str) -> "Watch":
        for happening in happenings:
            if isinstance(happening, int):
                self.monitor.answered(happening)
            else:
                getattr(self.monitor, happening)()
        return self

    def counts(self) -> tuple[int, int, int, int]:
        counts = self.monitor.counts()
        return counts[SERVER], counts[GATEWAY], counts[LOCAL], counts[TRUNCATED]


# What happens in order -> (server errors, gateway failures, local-origin failures, cut streams).
ROWS: list[tuple[tuple[int | str, ...], tuple[int, int, int, int]]] = [
    ((200, 301, 404, 429, 499), (0, 0, 0, 0)),
    ((500,), (1, 0, 0, 0)),
    ((501, 505, 599), (3, 0, 0, 0)),
    ((502, 503, 504), (3, 3, 0, 0)),
    ((503, 502, 500), (3, 0, 0, 0)),
    ((500, 503), (2, 1, 0, 0)),
    ((500, 503, 404), (0, 0, 0, 0)),
    (("unanswered", "unanswered"), (2, 2, 0, 0)),
    (("unanswered", 500, "unanswered"), (3, 1, 0, 0)),
    (("unanswered", "connected"), (1, 1, 0, 0)),
    ((200, "truncated", 200, "truncated"), (0, 0, 0, 2)),
    ((200, "truncated", 200, "completed"), (0, 0, 0, 0)),
    ((503, "completed"), (1, 1, 0, 0)),
]
SPLIT_ROWS: list[tuple[tuple[int | str, ...], tuple[int, int, int, int]]] = [
    (("unanswered", "unanswered"), (0, 0, 2, 0)),
    (("unanswered", "connected", 200), (0, 0, 0, 0)),
    (("unanswered", "connected", "unanswered"), (0, 0, 1, 0)),
    (("connected", 503, "unanswered"), (1, 1, 1, 0)),
    (("connected", 500, "connected", 200), (0, 0, 0, 0)),
]


@pytest.mark.parametrize(("happenings", "counts"), ROWS)
def test_what_is_counted(happenings, counts):
    watch = Watch().feed(*happenings)
    assert watch.counts() == counts
    assert watch.found == []


@pytest.mark.parametrize(("happenings", "counts"), SPLIT_ROWS)
def test_what_is_counted_when_the_origins_are_told_apart(happenings, counts):
    watch = Watch(Outlier(split_external_local_origin_errors=True)).feed(*happenings)
    assert watch.counts() == counts


def test_a_threshold_is_met_once_for_every_so_many_failures():
    watch = Watch(Outlier(consecutive_5xx=3)).feed(500, 500)
    assert watch.found == []
    watch.feed(500)
    assert watch.found == [SERVER]
    watch.feed(500, 500)
    assert watch.found == [SERVER]
    watch.feed(500)
    assert watch.found == [SERVER] * 2


def test_the_narrower_detector_speaks_first_when_both_are_met():
    policy = Outlier(consecutive_5xx=2, consecutive_gateway_failure=2)
    assert Watch(policy).feed(503, 503).found == [GATEWAY, SERVER]


def test_a_threshold_of_zero_never_speaks():
    policy = Outlier(consecutive_5xx=0, consecutive_gateway_failure=0, consecutive_truncated=0)
    watch = Watch(policy).feed(*[503, "truncated", "unanswered"] * 40_000)
    assert watch.found == []
    assert watch.counts() == (65535, 65535, 0, 40000), "a count stops, it does not spill over"


def test_answers_that_are_cut_are_found_though_every_head_was_good():
    watch = Watch().feed(*[200, "truncated"] * 5)
    assert watch.found == [TRUNCATED]


def test_the_count_is_the_machines_not_the_workers():
    """Two workers share a word: failures add up, and a success at one ends the other's row."""
    watch = Watch()
    other = watch.another()
    watch.feed(500, 500)
    other.answered(500)
    watch.feed(500)
    assert watch.found == []
    other.answered(500)
    assert watch.found == [SERVER]
    watch.feed(500, 500, 500, 500)
    other.answered(200)
    watch.feed(500)
    assert watch.found == [SERVER]


def test_a_reload_may_lower_the_threshold_below_the_count():
    watch = Watch().feed(500, 500, 500, 500)
    watch.monitor = watch.another(Outlier(consecutive_5xx=2))
    watch.feed(500)
    assert watch.found == [SERVER]
