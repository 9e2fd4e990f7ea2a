"""Quantities: tables of what is read, what is written, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.units import (
    Address,
    Amount,
    Duration,
    Interval,
    Percent,
    Rate,
    Secret,
    Size,
)

DURATIONS = [
    ("250ms", 0.25, "250ms"),
    ("5s", 5, "5s"),
    ("1h", 3600, "1h"),
    ("1m30s", 90, "1m30s"),
    ("90s", 90, "1m30s"),
    ("1.5s", 1.5, "1s500ms"),
    ("0", 0, "0s"),
    ("0s", 0, "0s"),
    ("1h0m1ms", 3600.001, "1h1ms"),
    ("0.5ms", 0.0005, "0.0005s"),
    ("8784h", 366 * 86400, "8784h"),
]
SIZES = [
    ("0", 0, "0B"),
    ("512B", 512, "512B"),
    ("64KiB", 65536, "64KiB"),
    ("10MiB", 10 << 20, "10MiB"),
    ("1.5GiB", 3 << 29, "1536MiB"),
    ("1 KB", 1000, "1000B"),
    ("2GB", 2 * 10**9, "1953125KiB"),
]
PERCENTS = [("0%", 0, "0%"), ("10%", 10, "10%"), ("2.50%", 2.5, "2.5%"), ("100%", 100, "100%")]
AMOUNTS = [
    ("1", 1, "1"),
    ("200k", 200_000, "200k"),
    ("1.5M", 1_500_000, "1500k"),
    ("2G", 2 * 10**9, "2G"),
]
RATES = [
    ("100/min", 100, 60, "100/min"),
    ("200k/h", 200_000, 3600, "200k/h"),
    ("1000/s", 1000, 1, "1k/s"),
]
ADDRESSES = [
    ("10.0.0.1:8000", "10.0.0.1", 8000),
    ("engine-0.engines.svc:80", "engine-0.engines.svc", 80),
    ("[::1]:9901", "::1", 9901),
    ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ("localhost:0", "localhost", 0),
]


@pytest.mark.parametrize(("text", "seconds", "written"), DURATIONS)
def test_durations(text: str, seconds: float, written: str) -> None:
    assert Duration.parse(text) == pytest.approx(seconds, abs=1e-9)
    assert str(Duration.parse(text)) == written


@pytest.mark.parametrize(("text", "size", "written"), SIZES)
def test_sizes(text: str, size: int, written: str) -> None:
    assert Size.parse(text) == size
    assert str(Size.parse(text)) == written


@pytest.mark.parametrize(("text", "value", "written"), PERCENTS)
def test_percentages(text: str, value: float, written: str) -> None:
    assert Percent.parse(text) == value
    assert str(Percent.parse(text)) == written


@pytest.mark.parametrize(("text", "host", "port"), ADDRESSES)
def test_addresses(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address) == (host, port, text)


REFUSED = [
    *((Duration, text) for text in ("", "5", "5 s", "s", "5sec", "-5s", "1s1m", "1s1s", "1e3s")),
    *((Duration, text) for text in ("9999999h", "\u0665s", "5s ", "5s\n", "inf", "1h,1s")),
    *((Interval, text) for text in ("0", "0s", "0.1ms")),
    *((Size, text) for text in ("", "5", "5KIB", "-1B", "5TiB", "1025GiB", "KiB", "1B\n")),
    *((Percent, text) for text in ("", "10", "-1%", "101%", "100.1%", "%", "1 %", "1%\n")),
    *((Address, text) for text in ("", "a", ":80", "a:", "a:b", "a:65536", "a:1:2", "::1:80")),
    *(
        (Address, text)
        for text in ("[::1]", "[a]:80", "http://a:80", "a b:80", "a:\u0661", "a:1\n")
    ),
    *((Secret, text) for text in ("", "a\nb", "\u00e9", "x" * 4097)),
]


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_refused(kind: type[Duration], text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        kind.parse(text)


@given(st.integers(0, 366 * 86400 * 1000))
def test_a_duration_is_written_as_it_is_read(millis: int) -> None:
    duration = Duration(millis / 1000)
    assert Duration.parse(str(duration)) == pytest.approx(duration, abs=1e-9)


@given(st.integers(0, 1 << 40))
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert Size.parse(str(Size(size))) == size


def test_a_secret_shows_nothing() -> None:
    secret = Secret.parse("open-sesame")
    assert secret.reveal() == "open-sesame"
    assert "sesame" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("open-sesame") != Secret("other")


@pytest.mark.parametrize(("text", "amount", "written"), AMOUNTS)
def test_amounts(text: str, amount: int, written: str) -> None:
    assert Amount.parse(text) == amount
    assert str(Amount.parse(text)) == written


@pytest.mark.parametrize(("text", "amount", "period", "written"), RATES)
def test_rates(text: str, amount: int, period: float, written: str) -> None:
    rate = Rate.parse(text)
    assert (rate.amount, rate.period, str(rate)) == (amount, period, written)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1K", "2000G", "1e3", "k"])
def test_amounts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Amount.parse(text)


@pytest.mark.parametrize("text", ["100", "100/", "/min", "0/s", "5/m", "5 / s", "1/5s"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Rate.parse(text)
