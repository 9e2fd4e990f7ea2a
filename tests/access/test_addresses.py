"""Which addresses may connect, and which one a request comes from."""

import pytest

from router.core.access.addresses import AddressRules, ForwardedRules, Networks


@pytest.mark.parametrize(
    ("peer", "admitted"),
    [
        ("10.1.2.3", True),
        ("10.66.0.1", False),
        ("11.0.0.1", False),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("fe80::1%eth0", False),
        ("-", True),
    ],
)
def test_deny_wins_over_allow(peer: str, admitted: bool) -> None:
    rules = AddressRules(Networks(["10.0.0.0/8", "2001:db8::/32"]), Networks(["10.66.0.0/16"]))
    assert rules.admits(peer) is admitted


def test_without_allow_all_but_the_denied_come_in() -> None:
    rules = AddressRules(deny=Networks(["192.0.2.7"]))
    assert rules.admits("192.0.2.8")
    assert not rules.admits("192.0.2.7")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "host", ""])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError):
        Networks([text])


@pytest.mark.parametrize(
    ("hops", "header", "client"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (2, "1.1.1.1, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "10.9.9.9"),  # as Envoy: fewer entries than hops
        (1, "unknown", "10.9.9.9"),
        (1, "[2001:db8::1]:443", "2001:db8::1"),
        (1, "203.0.113.9:1234", "203.0.113.9"),
        (1, "", "10.9.9.9"),
    ],
)
def test_trusted_hops_count_from_the_end(hops: int, header: str, client: str) -> None:
    assert ForwardedRules(trusted_hops=hops).client("10.9.9.9", header) == client


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("192.0.2.1", "1.1.1.1", "192.0.2.1"),  # not one of ours: it may write what it likes
        ("10.0.0.1", "1.1.1.1, junk", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
    ],
)
def test_trusted_proxies_are_walked_from_the_end(peer: str, header: str, client: str) -> None:
    rules = ForwardedRules(trusted_proxies=Networks(["10.0.0.0/8"]))
    assert rules.client(peer, header) == client
