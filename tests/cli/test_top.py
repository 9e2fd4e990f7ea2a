"""What ``warmpath top`` makes of two looks at a router."""

import io
from typing import Any

import pytest
from rich.console import Console

from router.cli import status
from router.cli.top import Sample, picture, rates


def endpoint(address: str, outcomes: dict[str, int], in_flight: int = 0) -> dict[str, Any]:
    return {
        "address": address,
        "state": "ready",
        "override": None,
        "healthy": True,
        "outlier": None,
        "pushed_back_for": 0,
        "load": None,
        "weight": 1,
        "in_flight": in_flight,
        "outcomes": outcomes,
    }


def sample(at: float, *endpoints: dict[str, Any]) -> Sample:
    info = {"version": "1", "state": "live", "workers": [{"state": "serving"}], "connections": 3}
    event = {"at": 0.0, "kind": "ejection", "endpoint": "c/b:1", "action": "eject"}
    return Sample(at, info, [{"name": "c", "endpoints": list(endpoints)}], [event])


def test_rates_are_those_between_two_looks() -> None:
    before = sample(10.0, endpoint("a:1", {"success": 100, "reset": 1}))
    now = sample(
        12.0,
        endpoint("a:1", {"success": 150, "reset": 2, "abandoned": 9}),
        endpoint("b:1", {"success": 5000}),
    )
    assert rates(before, now) == {("c", "a:1"): (25.0, 0.5), ("c", "b:1"): (0.0, 0.0)}
    assert set(rates(None, now).values()) == {(0.0, 0.0)}


def test_a_router_that_was_started_anew_does_not_run_backwards() -> None:
    before = sample(10.0, endpoint("a:1", {"success": 100}))
    assert rates(before, sample(11.0, endpoint("a:1", {"success": 3}))) == {("c", "a:1"): (0, 0)}


def test_the_busiest_come_first_and_failures_stand_out() -> None:
    before = sample(10.0, *(endpoint(f"{name}:1", {}) for name in "abc"))
    now = sample(
        11.0,
        endpoint("a:1", {"success": 2}),
        endpoint("b:1", {"reset": 4}, in_flight=7),
        endpoint("c:1", {"success": 9}),
    )
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(picture(before, now))
    text = console.export_text()
    assert "11.0 requests/s, 4.0 failed/s" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("c ")]
    assert [row[1] for row in rows] == ["b:1", "c:1", "a:1"]
    assert rows[0][4:7] == ["0.0", "4.0", "7"]
    assert "ejection" in text


def test_addresses_of_ipv6_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    address = "[fd00::3]:8000"
    shown = {**endpoint(address, {}), "override": None}
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(picture(None, sample(1.0, shown)))
    assert f" {address} " in console.export_text()
    info = {"version": "1", "state": "live", "generation": 1, "uptime": 1.0, "connections": 0}
    cluster = {
        "name": "c",
        "endpoints": [shown],
        "queue": {"breakers": {}},
        "discovery": None,
    }
    status._print({**info, "workers": []}, [cluster])
    assert f" {address} " in capsys.readouterr().out
