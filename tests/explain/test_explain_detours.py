"""What is explained of faults: which there are, and which of them a request meets."""

import random

from router.core.explain import explain
from router.core.fault import Abort, Cut, Delay, Fault
from tests.core.world import request, snapshot


def test_faults_are_told_and_which_of_them_this_request_meets() -> None:
    fault = Fault(delay=Delay(1.5), abort=Abort(503, 0), cut=Cut(7, 5))
    told = explain(snapshot(1, fault=fault), request(stream=True), random.Random(1))
    assert [(seen.kind, seen.concerned, seen.drawn) for seen in told.faults] == [
        ("delay", True, True),
        ("abort", True, False),
        ("cut", True, None),
    ]
    assert told.faults[2].does == "ends the stream after event 7"
    assert told.attempts, "what follows the delay is told too"


def test_an_abort_is_what_the_client_gets() -> None:
    told = explain(snapshot(1, fault=Fault(abort=Abort(503))), request(), random.Random(1))
    assert told.error is not None
    assert (told.error.status, told.error.flag) == (503, "FI")
    assert told.attempts == ()
