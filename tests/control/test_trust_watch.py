"""The log and the events say once that a mirror is not believed, and once that it is."""

from typing import Any

from structlog.testing import capture_logs

from router.control.journal import Journal
from router.control.trust_watch import TrustWatch
from router.telemetry.totals import Mean, Totals


def reports(*believed: float, cluster: str = "c") -> list[Totals]:
    found = []
    for one in believed:
        totals = Totals()
        totals.means["cache_mirror_believed"] = {(cluster,): Mean(one)}
        totals.means["cache_mirror_error"] = {(cluster,): Mean(0.3 - 0.25 * one)}
        found.append(totals)
    return found


def test_it_is_told_once_however_many_workers_find_out() -> None:
    said: list[Totals] = []
    journal = Journal()
    with capture_logs() as lines:
        watch = TrustWatch(journal.add, lambda: said)
        for now in (
            reports(1.0, 1.0),
            reports(1.0, 0.0),
            reports(0.0, 0.0),
            reports(0.0, 1.0),
            reports(1.0, 1.0),
            reports(1.0, 1.0),
        ):
            said[:] = now
            watch.look()
    assert [line["log_level"] for line in lines] == ["warning", "info"]
    assert lines[0]["workers"] == 1
    events: list[tuple[str, dict[str, Any]]] = [(e.kind, e.fields) for e in journal.last(9)]
    assert events == [
        ("prediction", {"cluster": "c", "believed": False, "error": 0.3}),
        ("prediction", {"cluster": "c", "believed": True, "error": 0.05}),
    ]


def test_each_cluster_for_itself_and_none_that_is_gone() -> None:
    said = reports(0.0) + reports(1.0, cluster="d")
    journal = Journal()
    watch = TrustWatch(journal.add, lambda: said)
    watch.look()
    assert watch.lost == {"c"}
    said[:] = reports(1.0, cluster="d")
    watch.look()
    assert watch.lost == set()
    said[:] = reports(0.0)
    watch.look()
    assert [event.fields["believed"] for event in journal.last(9)] == [False, False]


def test_workers_that_have_not_reported() -> None:
    watch = TrustWatch(Journal().add, lambda: [Totals()])
    watch.look()
    assert watch.lost == set()
