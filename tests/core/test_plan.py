"""Which buckets requests draw on is found out once for each kind of them, and forgotten in time."""

from router.core.admission.plan import PLANS, Plans, draws_for
from router.core.admission.rate_limit import Descriptor, RateLimit
from router.core.admission.token_bucket import BucketSpec
from tests.core.world import request

ALL = RateLimit(name="all", bucket=BucketSpec(5, 1))
BY_MODEL = RateLimit(
    name="tokens",
    bucket=BucketSpec(100, 1),
    per=(Descriptor("tenant"), Descriptor("model")),
    unit="tokens",
)
EVERYWHERE = RateLimit(name="global", bucket=BucketSpec(9, 1), scope="global", enforce=False)


def test_a_plan_has_the_keys_that_the_limits_say() -> None:
    limits, asked = (ALL, BY_MODEL, EVERYWHERE), request(tenant="t", model="m")
    found = Plans().find("r", limits, None, asked)
    assert found.here == (ALL, BY_MODEL)
    assert [draw.key for draw in found.here_draws] == [ALL.key(asked), BY_MODEL.key(asked)]
    assert [d.amount for d in draws_for(70, found.here, found.here_draws)] == [1, 70]
    assert [d.amount for d in draws_for(700, found.here, found.here_draws)] == [1, 100]
    assert found.everywhere == (EVERYWHERE,)
    assert not found.everywhere_draws[0].binding
    assert found.tokens


def test_requests_of_a_kind_have_one_plan_and_others_another() -> None:
    plans, limits = Plans(), (ALL, BY_MODEL)
    first = plans.find("r", limits, None, request(tenant="t", model="m", body_bytes=1))
    assert plans.find("r", limits, None, request(tenant="t", model="m", body_bytes=2)) is first
    assert plans.find("r", limits, None, request(tenant="u", model="m")) is not first
    without = plans.find("r", limits, None, request(tenant=None, model="m"))
    assert without.here == (ALL,), "a request without a tenant is not subject to the other"
    assert not without.tokens
    assert plans.find("s", (BY_MODEL,), None, request(tenant="t", model="m")).here == (BY_MODEL,)
    own = plans.find("r", (BY_MODEL,), (ALL,), request(tenant="t", model="m"))
    assert own.here == (BY_MODEL, ALL)


def test_plans_are_bounded() -> None:
    plans = Plans()
    for number in range(PLANS + 9):
        plans.find("r", (BY_MODEL,), None, request(tenant=f"t{number}", model="m"))
        plans.find(f"r{number}", (ALL,), None, request())
    assert repr(plans) == f"<Plans {PLANS} of {PLANS} groups>"
