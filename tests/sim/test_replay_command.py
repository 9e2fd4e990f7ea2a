"""``warmpath replay``."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from router.cli.main import main
from router.core.admission.breaker import CircuitBreaker
from router.sim.policies import parse
from router.sim.profile import HBM
from tests.sim.access_lines import lines, trace, write

FLEET = (HBM,) * 3


def replay(*arguments: str, stdin: bytes | None = None) -> str:
    result = CliRunner().invoke(main, ["replay", "--jobs", "1", *arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def told(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(replay(*arguments, "-o", "json"))
    return found


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["replay", "--jobs", "1", *arguments])
    assert result.exit_code == 2
    return " ".join(result.output.split())


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(write(tmp_path / "access.log", lines(trace(300), replicas=FLEET)))


@pytest.mark.parametrize("policy", ["round_robin", "predicted_ttft", "least_request"])
def test_a_simulated_run_that_was_logged_is_the_same_again(tmp_path: Path, policy: str) -> None:
    """Times are logged to the microsecond."""
    written = lines(trace(300), parse(policy), replicas=FLEET)
    found = told(str(write(tmp_path / "access.log", written)), "--policy", "random")
    assert found["in_force"] == policy
    assert found["doubts"] == []
    for name, figure in found["logged"].items():
        again = found["as_it_was"][name]["mean"]
        assert again == pytest.approx(figure["mean"], rel=2e-5, abs=2e-6), name
    assert found["logged"]["hit_rate"]["mean"] > 0.2
    assert [one["policy"] for one in found["policies"]] == [policy, "random"]


def test_refusals_are_the_same_again(tmp_path: Path) -> None:
    """A policy with limits, from a configuration; what was refused is asked for once more."""
    written = lines(
        trace(300, rate=20),
        replicas=FLEET,
        breaker=CircuitBreaker(max_connections=6, max_pending=1 << 20, max_requests=6),
    )
    config = tmp_path / "warmpath.yaml"
    config.write_text(
        "version: 1\nclusters:\n- name: engines\n  endpoints: [10.0.0.1:8000]\n"
        "  balancer: {type: round_robin}\n"
        "  circuit_breaker: {max_connections: 6, max_requests: 6}\n"
        "routes:\n- {name: all, to: engines}\n"
    )
    path = str(write(tmp_path / "access.log", written))
    found = told(path, "-c", str(config), "--policy", "random")
    said, again = found["logged"], found["as_it_was"]
    assert found["estimated"] > 50
    assert said["refused"]["mean"] > 20
    assert again["refused"]["mean"] == pytest.approx(said["refused"]["mean"], rel=0.1)
    assert found["policies"][1]["measures"]["refused"]["mean"] > 20
    assert "failed without telling tokens: those are estimated" in " ".join(replay(path).split())


def test_the_table(log: str) -> None:
    shown = replay(log)
    assert "cluster engines: 300 requests in " in shown
    assert " at 3 endpoints" in shown
    rows = [line.split("  ")[0].strip() for line in shown.splitlines() if line.count(".") > 4]
    assert rows == ["the log", "simulated:", "predicted_ttft", "least_request"]


def test_other_fleets_and_loads_are_beside_what_was(log: str) -> None:
    found = told(log, "--load", "1.5", "--endpoints", "1", "--policy", "round_robin")
    assert (found["load"], found["replicas"], found["endpoints"]) == (1.5, 1, 3)
    (policy,) = found["policies"]
    assert found["as_it_was"]["ttft_mean"]["mean"] == pytest.approx(
        found["logged"]["ttft_mean"]["mean"], abs=2e-6
    )
    more = policy["measures"]["requests"]["mean"] / found["logged"]["requests"]["mean"]
    assert more == pytest.approx(1.5, rel=0.25)
    assert policy["measures"]["ttft_mean"]["mean"] > 2 * found["logged"]["ttft_mean"]["mean"]
    half = told(log, "--load", "0.5", "--policy", "round_robin")["policies"][0]["measures"]
    assert half["requests"]["mean"] < 0.7 * found["logged"]["requests"]["mean"]


def test_the_report_is_the_same_again(log: str) -> None:
    asked = (log, "--seeds", "2", "--load", "1.3", "-o", "json")
    assert replay(*asked) == replay(*asked)


def test_a_reader_is_warned_where_the_simulator_is_far_off(tmp_path: Path) -> None:
    """Engines of half the speed and a tenth of the room."""
    slow = HBM.scaled(0.5, 0.1)
    written = lines(trace(400), parse("predicted_ttft"), replicas=(slow,) * 3)
    path = str(write(tmp_path / "access.log", written))
    hits, times = told(path)["doubts"]
    assert "of the prompt tokens are found in simulated caches" in hits
    assert "of TTFT is " in times and "--fit may help" in times
    assert "doubtful: " in replay(path)
    with_room = told(path, "--kv-tokens", str(slow.kv_tokens))["doubts"]
    assert not any("--kv-tokens" in doubt for doubt in with_room)


def test_fitted_engines_are_as_fast_as_the_logs(tmp_path: Path) -> None:
    slow = HBM.scaled(0.5, 1.0)
    path = str(write(tmp_path / "access.log", lines(trace(300, rate=1.5), replicas=(slow,) * 3)))
    found = told(path, "--fit")
    assert found["fit"]["prefill"] == pytest.approx(2, rel=0.1)
    assert found["doubts"] == []
    assert "a prompt token takes 2.0" in " ".join(replay(path, "--fit").split())
    assert told(path)["doubts"]


def test_engines_are_named_as_in_a_plan(log: str) -> None:
    asked = ("--policy", "random", "--was", "round_robin")
    found, same, fast = (
        told(log, *asked, "--profile", name)
        for name in ("hbm", "h100/llama-3.1-8b", "b200/llama-3.1-8b/fp8")
    )
    assert found["as_it_was"] == same["as_it_was"]
    assert fast["as_it_was"]["ttft_mean"]["mean"] < 0.6 * found["as_it_was"]["ttft_mean"]["mean"]
    for name, message in (
        ("fast", "expected hbm, off or GPU/MODEL[/PRECISION]"),
        ("h100/llama-3.1-8b/int4", "not 'h100/llama-3.1-8b/int4'"),
        ("h100/llama-3.1-70b", "141 GB of weights in bf16"),
        ("h1000/llama-3.1-8b", "there is no GPU 'h1000'"),
    ):
        assert message in refused(log, "--profile", name)


def test_without_prefixes_hits_are_not_known(tmp_path: Path) -> None:
    bare = [
        json.dumps(json.loads(line) | {"prefix": None, "prompt_bytes": None}).encode() + b"\n"
        for line in lines(trace(60), replicas=FLEET)
    ]
    path = str(write(tmp_path / "access.log", bare))
    assert "set `access_log: {prefix: salted}`" in refused(path)
    found = told(path, "--without-prefix")
    assert found["logged"]["hit_rate"]["mean"] > 0
    assert found["as_it_was"]["hit_rate"]["mean"] is None
    assert {one["measures"]["hit_rate"]["mean"] for one in found["policies"]} == {None}


def test_a_log_from_standard_input_and_what_was_left_out(tmp_path: Path) -> None:
    written = [*lines(trace(60), replicas=FLEET), b'{"cut": \n', b"{}\n"]
    shown = replay("-", "--policy", "random", stdin=gzip.compress(b"".join(written)))
    assert "of 62 lines not replayed: 1 no whole JSON object; 1 no line of the access log" in (
        " ".join(shown.split())
    )


def test_of_several_clusters_one_is_to_be_named(tmp_path: Path) -> None:
    written = lines(trace(60), replicas=FLEET)
    written += [line.replace(b'"cluster":"engines"', b'"cluster":"code"') for line in
                lines(trace(30, seed=2), replicas=FLEET)]  # fmt: skip
    path = str(write(tmp_path / "access.log", written))
    assert "give --cluster: engines (60), code (30)" in refused(path)
    assert "nothing to replay was sent to 'chat': there are code, engines" in refused(
        path, "--cluster", "chat"
    )
    found = told(path, "--cluster", "code", "--policy", "random")
    assert (found["replayed"], found["excluded"]) == (30, {"of other clusters": 60})


def test_the_policy_in_force_may_be_named_or_not_be_known(tmp_path: Path) -> None:
    path = str(write(tmp_path / "access.log", lines(trace(60), parse("ring_hash"))))
    found = told(path)
    assert (found["in_force"], found["as_it_was"]) == (None, None)
    assert [one["policy"] for one in found["policies"]] == [
        *("predicted_ttft", "round_robin", "least_request")
    ]
    assert "does not tell which balancer was in force" in " ".join(replay(path).split())
    named = told(path, "--was", "ring_hash")
    assert named["in_force"] == "ring_hash"
    assert named["policies"][0]["policy"] == "ring_hash"
    assert "there is no policy 'best'" in refused(path, "--was", "best")
    other = str(write(tmp_path / "other.log", lines(trace(60), parse("random"))))
    assert (
        "said to have been in force, but the log's reasons are random's"
        in (told(other, "--was", "maglev", "--policy", "random")["doubts"][0])
    )


def test_a_picture_has_the_log_in_it(log: str, tmp_path: Path) -> None:
    once, again = tmp_path / "a.svg", tmp_path / "b.svg"
    for path in (once, again):
        replay(log, "--plot", str(path), "--load", "2")
    assert once.read_bytes() == again.read_bytes()
    assert "as it was" in once.read_text()
    assert "expected a name that ends in" in refused(log, "--plot", str(tmp_path / "a.pdf"))


def test_a_log_with_many_requests_at_each_instant_is_the_same_again(tmp_path: Path) -> None:
    """Such times look rounded, as some traces' are; these are what they are."""
    begin = 1_780_000_000_000
    written = []
    for index, line in enumerate(lines(trace(120, rate=50), replicas=FLEET)):
        at = datetime.fromtimestamp((begin + 40 * (index // 3)) / 1000, UTC)
        one = json.loads(line) | {"time": at.isoformat(), "request_id": str(index)}
        written.append(json.dumps(one).encode() + b"\n")
    found = told(str(write(tmp_path / "access.log", written)), "--policy", "random")
    said, again = found["logged"]["requests"]["mean"], found["as_it_was"]["requests"]["mean"]
    assert said == again > 60


def test_what_no_endpoint_was_given_needs_a_number_of_them(tmp_path: Path) -> None:
    nothing = {"endpoint": "-", "status": 503, "flag": "UO", "ttft": None, "prompt_tokens": None}
    written = [
        json.dumps(json.loads(line) | nothing).encode() + b"\n"
        for line in lines(trace(60), replicas=FLEET)
    ]
    path = str(write(tmp_path / "access.log", written))
    assert "no request reached an endpoint: say how many with --endpoints" in refused(path)
    found = told(path, "--endpoints", "2", "--was", "random")
    assert found["as_it_was"] is None
    assert found["logged"]["refused"] == found["logged"]["requests"]
    assert found["policies"][0]["measures"]["lost"]["mean"] == 0


def test_a_part_of_a_log(log: str) -> None:
    found = told(log, "--duration", "10", "--policy", "random")
    assert 9 < found["duration"] <= 10
    assert found["replayed"] + found["excluded"]["after the time that was asked for"] == 300
