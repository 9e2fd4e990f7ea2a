"""``warmpath plan``."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from router.cli.main import main
from router.sim.profile import HBM
from tests.sim.access_lines import lines, trace, write

SHORT = ("--duration", "60", "--seeds", "2", "--jobs", "1")
DRAWN = (
    *("--rate", "3", "--prompt-tokens", "800:3000", "--output-tokens", "100"),
    *("--system-prompt", "1000", "--turns", "3"),
)


def plan(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(main, ["plan", *SHORT, *arguments])
    assert result.exit_code == status, result.output
    return result.output


def told(*arguments: str, status: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plan(*arguments, "-o", "json", status=status))
    return found


def replicas(*arguments: str) -> int:
    (option,) = told(*arguments)["options"]
    return int(option["replicas"])


def test_simulate_agrees_that_so_many_do_and_one_fewer_do_not(tmp_path: Path) -> None:
    """``simulate`` knows nothing of the search: 99 % in time is a p99 in time."""
    path = str(write_trace(tmp_path))
    n = replicas("--trace", path, "--rate", "6", "--slo-ttft", "3s", "--gpu", "h100")
    assert n > 2
    within = [worst_p99(path, count) <= 3.0 for count in (n - 1, n, n + 1)]
    assert within == [False, True, True]


def write_trace(tmp_path: Path) -> Path:
    made = trace(600, rate=2.0)
    rows = [
        json.dumps([one.at, one.prompt, one.answer, one.blocks, one.conversation])
        for one in made.requests
    ]
    path = tmp_path / "made.jsonl"
    path.write_text("\n".join(['{"block": 128}', *rows]) + "\n")
    return path


def worst_p99(path: str, count: int) -> float:
    """Of the seeds, with so many engines of the profile that ``h100`` is."""
    asked = [
        *("simulate", path, *SHORT, "--replicas", str(count), "--regime", "hbm"),
        *("--load", "6", "--policy", "predicted_ttft", "-o", "json"),
    ]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    (policy,) = json.loads(result.output)["policies"]
    runs = policy["phases"][0]["runs"]
    assert all(run["lost"] == 0 for run in runs)
    return max(float(run["ttft_p99"]) for run in runs)


def test_the_report(tmp_path: Path) -> None:
    asked = (*DRAWN, "--prompt-tokens", "800:12000", "--slo-ttft", "4s")
    found = told(*asked, *(f"--gpu={gpu}" for gpu in ("h100", "a100", "l4")))
    assert found["rate"] == 3 and found["promise"]["attainment"] == 0.99
    assert {option["gpu"] for option in found["options"]} == {"h100", "a100"}
    costs = [option["usd_per_month"] for option in found["options"]]
    assert costs == sorted(costs)
    for option in found["options"]:
        assert option["attained"] >= 0.99
        assert option["usd_per_month"] == pytest.approx(
            option["replicas"] * option["price"]["usd_per_hour"] * 730
        )
        per_second = option["replicas"] * option["price"]["usd_per_hour"] / 3600
        assert option["usd_per_million_tokens"] == pytest.approx(
            per_second / option["tokens_per_second"] * 1e6
        )
        assert 0 < option["prefilling"] < option["busy"] <= 1
        assert option["price"]["source"] and option["price"]["date"]
    by_gpu = {option["gpu"]: option for option in found["options"]}
    assert by_gpu["h100"]["derived"] == [] and len(by_gpu["a100"]["derived"]) == 6
    assert by_gpu["h100"]["profile"]["kv_tokens"] == HBM.kv_tokens
    measures = by_gpu["h100"]["measures"]
    tokens = measures["prompt_tokens"]["mean"] + measures["answer_tokens"]["mean"]
    assert by_gpu["h100"]["tokens_per_second"] == pytest.approx(tokens / (0.6 * 60))
    (l4,) = found["impossible"]
    assert l4["gpu"] == "l4" and "tokens has no room in a cache of 27008" in l4["reason"]


def test_the_table_marks_the_cheapest_and_says_why() -> None:
    shown = " ".join(plan(*DRAWN, "--gpu", "h100", "--gpu", "a100").split())
    assert "drawn traffic: 3.00 requests a second for llama-3.1-8b in bf16 behind" in shown
    assert "0.99 of them within 2 s in each of 2 seeds" in shown
    assert "Cheapest: " in shown and "runpod.io/pricing" in shown
    assert "a100 ~" in shown and "h100 ~" not in shown


def test_more_is_needed_for_more_load_tighter_promises_and_spares() -> None:
    asked = (*DRAWN, "--gpu", "h100", "--rate", "6", "--seeds", "1", "--slo-attainment", "95%")
    usual = replicas(*asked)
    assert replicas(*asked, "--growth", "2") > usual
    assert replicas(*asked, "--slo-ttft", "200ms") > usual
    assert replicas(*asked, "--slo-itl", "12ms") > usual
    assert replicas(*asked, "--spare", "1") == usual + 1


def test_the_plan_is_the_same_again_on_one_process_and_on_two() -> None:
    asked = (*DRAWN, "--gpu", "h100", "--gpu", "h200", "-o", "json")
    assert plan(*asked) == plan(*asked, "--jobs", "2")


def test_prices_of_ones_own_make_another_gpu_the_cheapest(tmp_path: Path) -> None:
    asked = (*DRAWN, "--gpu", "h100", "--gpu", "h200")
    path = tmp_path / "mine.yaml"
    for gpu in ("h100", "h200"):
        path.write_text(
            f"prices: {{{gpu}: {{usd_per_hour: 0.1, source: us, date: '2027-01-01'}}}}\n"
        )
        assert told(*asked, "--data", str(path))["options"][0]["gpu"] == gpu


def test_a_log_is_planned_for(tmp_path: Path) -> None:
    log = str(write(tmp_path / "access.log", lines(trace(300), replicas=(HBM,) * 3)))
    found = told("--log", log, "--gpu", "h100", "--slo-ttft", "5s")
    assert found["traffic"] == "cluster engines of the log"
    assert found["rate"] == pytest.approx(10, rel=0.15)
    assert found["options"][0]["measures"]["hit_rate"]["mean"] > 0.2
    twice = told("--log", log, "--gpu", "h100", "--slo-ttft", "5s", "--growth", "2")
    assert twice["rate"] == pytest.approx(2 * found["rate"])


def test_what_nothing_can_do_is_said_with_its_reason() -> None:
    found = told(*DRAWN, "--gpu", "h100", "--slo-ttft", "5ms", "--max-replicas", "4", status=1)
    assert found["options"] == []
    assert "in time with 4 replicas, the most to try" in found["impossible"][0]["reason"]
    shown = plan(*DRAWN, "--model", "llama-3.1-70b", "--gpu", "h100", status=1)
    assert "Nothing keeps the promise." in shown
    assert "h100: 141 GB of weights in bf16 leave no room for a cache in 80 GB" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "without --trace or --log there must be --rate"),
        (("--rate", "3"), "there must be --prompt-tokens"),
        ((*DRAWN, "--prompt-tokens", "many"), "expected N or MEDIAN:P99, not 'many'"),
        ((*DRAWN, "--prompt-tokens", "100:50"), "p99 is at least the median"),
        ((*DRAWN, "--gpu", "h1000"), "'h1000': the data has a100, b200, h100"),
        ((*DRAWN, "--model", "gpt"), "'gpt': the data has llama-3.1-70b"),
        ((*DRAWN, "--slo-ttft", "2"), "--slo-ttft"),
        ((*DRAWN, "--slo-ttft", "0s"), "it is above 0"),
        ((*DRAWN, "--slo-attainment", "120%"), "expected a share as 0.99 or 99%, not '120%'"),
        ((*DRAWN, "--spare", "4", "--max-replicas", "4"), "there must be more"),
        ((*DRAWN, "--policy", "best"), "there is no policy 'best'"),
        ((*DRAWN, "--cluster", "c"), "--cluster is of a log"),
        ((*DRAWN, "--trace", "README.md"), "describes traffic to draw"),
        (("--trace", "README.md", "--log", "README.md"), "give one of them"),
        (("--log", "README.md"), "nothing to replay in"),
        (("--trace", "README.md"), "README.md:1:"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# Not a trace\n")
    result = CliRunner().invoke(main, ["plan", *SHORT, *arguments])
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
