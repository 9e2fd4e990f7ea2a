"""What an answer, an empty one and a failure do to what is known: narrated with a hand clock."""

from router.config.clusters import EndpointSpec
from router.config.units import Address
from router.control.discovery.answer import Answer
from router.control.discovery.membership import Membership, difference


def endpoint(host: str, weight: int = 1) -> EndpointSpec:
    return EndpointSpec(address=Address.parse(f"{host}:8000"), weight=weight)


def answer(*hosts: str) -> Answer:
    return Answer(endpoints=tuple(endpoint(host) for host in hosts))


def hosts(member: Membership) -> list[str]:
    return [spec.address.host for spec in member.known]


def test_answers_replace_what_is_known():
    member = Membership(60.0, 10)
    assert member.status(0.0)["state"] == "waiting"
    assert member.take(answer("a", "b"), 1.0)
    assert not member.take(answer("a", "b"), 2.0)
    assert member.take(answer("b", "c"), 3.0)
    assert hosts(member) == ["b", "c"]
    assert (member.results["changed"], member.results["unchanged"]) == (2, 1)
    assert member.status(5.0) == {
        "state": "current",
        "endpoints": 2,
        "left_out": 0,
        "confirmed_ago": 2.0,
        "empty_for": None,
        "error": None,
    }


def test_a_weight_is_a_change():
    member = Membership(60.0, 10)
    member.take(answer("a"), 0.0)
    assert member.take(Answer(endpoints=(endpoint("a", 2),)), 1.0)


def test_a_failure_keeps_what_is_known_and_makes_it_stale():
    member = Membership(60.0, 10)
    member.take(answer("a"), 0.0)
    assert member.failed("refused")
    assert not member.failed("refused"), "the same again is no news"
    assert member.failed("timed out")
    assert hosts(member) == ["a"]
    assert member.stale
    assert member.status(9.0)["confirmed_ago"] == 9.0
    member.take(answer("a"), 10.0)
    assert not member.stale


def test_an_empty_answer_is_believed_only_after_its_time():
    member = Membership(60.0, 10)
    member.take(answer("a"), 0.0)
    assert not member.take(answer(), 10.0)
    assert not member.take(answer(), 69.9)
    assert hosts(member) == ["a"]
    assert member.stale
    assert member.status(70.0)["empty_for"] == 60.0
    assert member.take(answer(), 70.0)
    assert hosts(member) == []
    assert not member.stale
    assert member.results["empty"] == 2


def test_a_failure_in_between_starts_the_time_anew():
    member = Membership(60.0, 10)
    member.take(answer("a"), 0.0)
    member.take(answer(), 10.0)
    member.failed("refused")
    assert member.empty_due is None
    assert not member.take(answer(), 71.0)
    assert member.empty_due == 131.0
    assert not member.believe(130.9)
    assert member.believe(131.0)
    assert hosts(member) == []


def test_endpoints_that_return_end_the_doubt():
    member = Membership(60.0, 10)
    member.take(answer("a"), 0.0)
    member.take(answer(), 10.0)
    assert not member.take(answer("a"), 20.0)
    assert not member.believe(100.0)
    assert not member.stale


def test_without_patience_empty_is_empty_at_once():
    member = Membership(0.0, 10)
    member.take(answer("a"), 0.0)
    assert member.take(answer(), 1.0)
    assert hosts(member) == []


def test_a_first_empty_answer_is_an_answer_but_does_not_empty_what_was_carried_over():
    assert not Membership(60.0, 10).take(answer(), 0.0)
    fresh = Membership(60.0, 10)
    fresh.take(answer(), 0.0)
    assert fresh.status(0.0)["state"] == "current"
    carried = Membership(60.0, 10, (endpoint("old"),))
    assert carried.stale
    assert not carried.take(answer(), 0.0)
    assert hosts(carried) == ["old"]
    assert carried.take(answer("new"), 1.0)
    assert hosts(carried) == ["new"]


def test_too_many_leave_out_the_newcomers():
    member = Membership(60.0, 2)
    member.take(answer("c", "d"), 0.0)
    assert not member.take(answer("a", "b", "c", "d"), 1.0)
    assert hosts(member) == ["c", "d"]
    assert member.left_out == 2
    assert member.take(answer("a", "b", "d"), 2.0)
    assert hosts(member) == ["a", "d"], "the survivor and the first of the others"
    member.take(answer("a"), 3.0)
    assert member.left_out == 0


def test_difference():
    before, after = answer("a", "b").endpoints, answer("b", "c").endpoints
    assert difference(before, after) == (["c:8000"], ["a:8000"])
