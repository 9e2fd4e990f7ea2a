"""``warmpath simulate``."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli.main import main
from router.cli.simulate_options import fleet
from router.sim.profile import HBM
from router.sim.summary import estimate

SHORT = ("--duration", "60", "--seeds", "2", "--replicas", "2", "--jobs", "1", "--load", "2")


def simulate(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["simulate", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_a_line_for_each_policy() -> None:
    told = simulate(*SHORT, "--policy", "round_robin", "--policy", "oracle")
    assert "mooncake_conversation.jsonl.gz: 2.00 requests a second for 60 s, 2 replicas" in told
    assert [line.split()[0] for line in told.splitlines() if re.search(r"±\d", line)] == [
        "round_robin",
        "oracle",
    ]


def test_the_report_is_the_same_again_on_one_process_and_on_two() -> None:
    asked = ("--policy", "least_request:choice_count=3", "-o", "json")
    told = simulate(*SHORT, *asked)
    assert told == simulate(*SHORT, *asked)
    assert told == simulate(*SHORT[:-4], *asked, "--jobs", "2", "--load", "2")
    plain = json.loads(told)
    assert plain["seeds"] == [1, 2]
    (policy,) = plain["policies"]
    assert policy["policy"] == "least_request:choice_count=3"
    (phase,) = policy["phases"]
    means = [run["ttft_mean"] for run in phase["runs"]]
    assert phase["measures"]["ttft_mean"]["mean"] == pytest.approx(sum(means) / 2)
    assert phase["measures"]["ttft_mean"]["margin"] == pytest.approx(
        12.706 * abs(means[0] - means[1]) / 2
    )


def test_one_seed_has_no_margin() -> None:
    assert estimate([3.0]).margin is None


def test_load_in_per_cent_is_of_what_the_fleet_bears() -> None:
    told = simulate(
        *("--duration", "20", "--seeds", "1", "--replicas", "4", "--jobs", "1"),
        *("--load", "50%", "--policy", "random", "-o", "json"),
    )
    assert json.loads(told)["rate"] == pytest.approx(11.8 / 2 / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "fastest"), "there is no policy 'fastest': it is one of predicted_ttft"),
        (("--policy", "oracle:x=1"), "oracle takes no fields"),
        (("--policy", "least_request:choices=3"), "no field 'choices'; there are active_request"),
        (("--policy", "least_request:choice_count"), "expected FIELD=VALUE, not 'choice_count'"),
        (("--policy", "least_request:choice_count=1"), "Expected `int` >= 2 - at `$.choice_count`"),
        (("--load", "fast"), "expected a share as 85% or a rate as 9.5, not 'fast'"),
        (("--load", "-1"), "expected a share as 85% or a rate as 9.5, not '-1'"),
        (("--fail", "30"), "expected AT:SECONDS[:REPLICA], not '30'"),
        (("--fail", "30:5:8"), "--fail: 8: there are replicas 0 to 7"),
        (("--drain", "soon"), "expected AT[:REPLICA], not 'soon'"),
        (("--drain", "9:1.5"), "--drain: 1.5: there are replicas 0 to 7"),
        (("--join", "600"), "at 600 s the run of 600 s is over"),
        (("--slow", "9:0.5"), "--slow: 9: there are 8 replicas"),
        (("--slow", "2:0"), "speed and cache must be above 0, not 0 and 1"),
        (("--cluster", "c"), "--cluster is of a configuration: give --config"),
        (("--load", "99999", "--duration", "1"), "has too few requests for 99999 a second"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["simulate", "--jobs", "1", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_share_of_an_unknown_load_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"block": 16}\n[0, 100, 5]\n[9, 100, 5]\n')
    result = CliRunner().invoke(main, ["simulate", str(path)])
    assert result.exit_code == 2
    assert "nobody has measured what off engines can bear of 'mine'" in result.output


def test_a_file_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("[]")
    result = CliRunner().invoke(main, ["simulate", str(path)])
    assert result.exit_code == 2
    assert "mine.jsonl:1: " in result.output


CONFIG = """
version: 1
clusters:
  - name: chat
    endpoints: [{address: 10.0.0.1:8000}]
    balancer: {type: least_request, choice_count: 4}
    circuit_breaker: {max_connections: 3, max_pending: 2}
routes:
  - {name: all, to: [{cluster: chat}]}
"""


def test_a_clusters_own_balancer_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "warmpath.yaml"
    path.write_text(CONFIG)
    told = json.loads(simulate(*SHORT, "--config", str(path), "-o", "json"))
    (policy,) = told["policies"]
    assert policy["policy"] == "least_request"
    assert policy["phases"][0]["measures"]["refused"]["mean"] > 10
    several = json.loads(simulate(*SHORT, "-c", str(path), "--policy", "random", "-o", "json"))
    assert [policy["policy"] for policy in several["policies"]] == ["random"]
    assert several["policies"][0]["phases"][0]["measures"]["refused"]["mean"] > 10


def test_a_cluster_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "warmpath.yaml"
    path.write_text(CONFIG)
    result = CliRunner().invoke(main, ["simulate", "-c", str(path), "--cluster", "code"])
    assert result.exit_code == 2
    assert "there is no cluster 'code': it has chat" in result.output
    path.write_text("version: 2\n")
    result = CliRunner().invoke(main, ["simulate", "-c", str(path)])
    assert result.exit_code == 1
    assert "warmpath.yaml:1" in result.output


def test_slow_replicas_are_the_last_ones() -> None:
    assert fleet(HBM, 4, None) == (HBM,) * 4
    assert fleet(HBM, 4, "1:0.5") == (HBM, HBM, HBM, HBM.scaled(0.5, 1))
    assert fleet(HBM, 2, "2:0.5:0.25") == (HBM.scaled(0.5, 0.25),) * 2


def test_the_minute_after_an_incident_is_told_for_itself() -> None:
    told = simulate(*SHORT, "--policy", "round_robin", "--fail", "40:10")
    assert [line.split("  ")[1].strip() for line in told.splitlines() if " to " in line] == [
        "40 to 100 s"
    ]


def test_a_picture_is_drawn_and_is_the_same_again(tmp_path: Path) -> None:
    once, again, pixels = (tmp_path / name for name in ("a.svg", "b.svg", "c.png"))
    for path in (once, again, pixels):
        simulate(*SHORT, "--policy", "random", "--policy", "oracle", "--plot", str(path))
    assert once.read_bytes() == again.read_bytes()
    assert b"<svg" in once.read_bytes()
    assert pixels.read_bytes().startswith(b"\x89PNG")


def test_a_picture_needs_a_known_form_and_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = CliRunner().invoke(main, ["simulate", "--plot", str(tmp_path / "a.pdf")])
    assert result.exit_code == 2
    assert "expected a name that ends in .svg or .png, not 'a.pdf'" in result.output
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["simulate", "--plot", str(tmp_path / "a.svg")])
    assert result.exit_code == 2
    assert "pip install 'warmpath[plot]'" in result.output


def test_a_figure_of_no_request_is_null() -> None:
    told = simulate(
        *SHORT, "--policy", "random", "--join", "59.99999", "--scrape", "0", "-o", "json"
    )
    phases = json.loads(told)["policies"][0]["phases"]
    assert "NaN" not in told
    assert phases[-1]["measures"]["requests"]["mean"] == 0
    assert phases[-1]["measures"]["ttft_mean"]["mean"] is None
    assert "60 to 120 s" in simulate(*SHORT, "--policy", "random", "--join", "59.99999")
