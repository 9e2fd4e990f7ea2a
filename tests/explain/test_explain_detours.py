"""What is explained of faults, fallbacks and mirrors, and which of them a request meets."""

import random

from router.core.admission.token_bucket import BucketSpec
from router.core.explain import Known, World, explain
from router.core.explanation import MirrorSeen
from router.core.fallback import Fallback
from router.core.fault import Abort, Cut, Delay, Fault
from router.core.mirror import Mirror
from tests.core.world import request, snapshot, spare


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


def test_the_chain_is_told_and_how_far_the_request_gets() -> None:
    chain = (Fallback("s", model="small"), Fallback("t"))
    policy = snapshot(1, fallbacks=chain, spares=(spare("s"), spare("t")))
    told = explain(policy, request(), random.Random(1))
    assert [attempt.endpoint[0] for attempt in told.attempts[:6]] == ["c", "c", "c", "s", "s", "s"]
    assert [link.taken for link in told.fallbacks] == ["c failed", "s failed"]
    assert told.arms[0].drawn

    down = World(known={"c/h0:80": Known(healthy=False)})
    told = explain(policy, request(), random.Random(1), down)
    assert told.fallbacks[0].taken == "c is unavailable"
    assert told.fallbacks[0].model == "small"
    assert told.attempts[0].endpoint == "s/s0:80"
    assert told.candidates[0].endpoint == "c/h0:80"


def test_who_gets_copies_is_told_and_nobody_gets_one() -> None:
    mirror = Mirror(cluster="s", percent=5, tokens=BucketSpec(60_000.0, 1000.0))
    policy = snapshot(1, mirrors=(mirror,), spares=(spare("s"),))
    told = explain(policy, request(body_bytes=400, max_tokens=50), random.Random(1))
    assert told.mirrors == (
        MirrorSeen(cluster="s", subset={}, percent=5, cost=150, per_minute=60_000.0),
    )
    assert told.attempts[0].endpoint == "c/h0:80"
