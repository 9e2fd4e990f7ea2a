"""What GPUs can do and cost, as a file has it."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from router.config.findings import ConfigError
from router.sim.catalogue import PRECISIONS, Catalogue, Offer, Unfit, load, offer
from router.sim.data import GPUS
from router.sim.profile import HBM, picoseconds

MODEL = "llama-3.1-8b"
PAGE = Path(__file__).parents[2] / "docs/plan.md"


def offers(catalogue: Catalogue, model: str, precision: str) -> dict[str, Offer]:
    found = {}
    for gpu in catalogue.gpus:
        try:
            found[gpu] = offer(catalogue, gpu, model, precision)
        except Unfit:
            continue
    return found


def mine(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_measured_engine_is_the_simulators() -> None:
    h100 = offer(load(), "h100", MODEL, "bf16")
    assert h100.profile == HBM
    assert h100.derived == ()
    assert "LLMServingSim" in h100.source


def test_derived_figures_are_worked_out_as_documented() -> None:
    a100 = offer(load(), "a100", MODEL, "bf16")
    # 15.01 GB at 0.9 of 2039 GB/s and 3 ms; 15.01 GFLOP at 0.63 of 312 TFLOP/s.
    assert a100.profile.step == pytest.approx(picoseconds(3e-3 + 15.01 / (0.9 * 2039)), rel=1e-6)
    per_token = picoseconds(15.01e9 / (0.63 * 312e12))
    assert a100.profile.per_prefill_token == pytest.approx(per_token, rel=1e-6)
    assert a100.profile.per_decode == a100.profile.per_prefill_token
    # 4 * 4096 * 32 operations at 0.38 of 312 TFLOP/s; 128 KiB at 0.8 of 2039 GB/s.
    pair = picoseconds(4 * 4096 * 32 / (0.38 * 312e12))
    assert a100.profile.per_token_context == pytest.approx(pair, abs=1)
    assert a100.profile.per_kv_token == pytest.approx(
        picoseconds(131_072 / (0.8 * 2039e9)), rel=1e-4
    )
    assert a100.profile.kv_tokens == int((0.9 * 80 - 2 * 8.03 - 2) * 1e9 / 131_072)
    assert len(a100.derived) == 6
    assert a100.source == ""


def test_derivation_comes_near_what_was_measured() -> None:
    """Of the one engine of which both are known."""
    catalogue = load()
    derived = offer(msgspec.structs.replace(catalogue, measured=()), "h100", MODEL, "bf16").profile
    for name in ("step", "per_prefill_token", "per_token_context", "per_kv_token", "kv_tokens"):
        assert getattr(derived, name) == pytest.approx(getattr(HBM, name), rel=0.05), name


def test_a_step_comes_near_what_was_measured_on_another_gpu(tmp_path: Path) -> None:
    """75 tokens a second of one sequence on an A100 of 40 GB: one of the two points of the fit."""
    path = mine(
        tmp_path,
        "gpus: {a100-40: {name: A100, memory_gb: 40, bandwidth_gb_s: 1555, bf16_tflops: 312, "
        "source: data sheet}}\n"
        "prices: {a100-40: {usd_per_hour: 1, source: nobody, date: '2027-01-01'}}\n",
    )
    step = offer(load(path), "a100-40", MODEL, "bf16").profile.step
    assert step == pytest.approx(picoseconds(1 / 75), rel=0.05)


def test_weights_in_fp8_take_half_the_room_and_are_computed_in_what_the_gpu_has() -> None:
    catalogue = load()
    for gpu, halved in (("h200", True), ("a100", False)):
        wide, narrow = (offer(catalogue, gpu, MODEL, each).profile for each in PRECISIONS)
        assert narrow.step < wide.step and narrow.kv_tokens > wide.kv_tokens
        ratio = narrow.per_prefill_token / wide.per_prefill_token
        assert ratio == pytest.approx(0.5 if halved else 1.0, rel=0.01)
        assert narrow.per_kv_token == wide.per_kv_token


def test_faster_gpus_are_faster_and_have_no_less_room() -> None:
    found = offers(load(), MODEL, "bf16")
    for slow, fast in (("l4", "l40s"), ("l40s", "h200"), ("a100", "h200"), ("h200", "b200")):
        one, other = found[slow].profile, found[fast].profile
        assert one.step > other.step and one.kv_tokens < other.kv_tokens


def test_a_model_that_does_not_fit_is_refused_with_its_size() -> None:
    catalogue = load()
    assert set(offers(catalogue, "llama-3.1-70b", "bf16")) == {"b200"}
    assert set(offers(catalogue, "llama-3.1-70b", "fp8")) == {"h200", "b200"}
    with pytest.raises(Unfit, match=r"141 GB of weights in bf16 leave no room .* in 80 GB"):
        offer(catalogue, "h100", "llama-3.1-70b", "bf16")
    with pytest.raises(Unfit, match="there is no GPU 'h1000': there are a100, b200"):
        offer(catalogue, "h1000", MODEL, "bf16")
    with pytest.raises(Unfit, match="there is no model 'gpt'"):
        offer(catalogue, "h100", "gpt", "bf16")


def test_every_figure_names_its_source() -> None:
    plain = yaml.safe_load(GPUS.read_text())
    for section in ("prices", "gpus", "models", "derived"):
        assert all(entry["source"] for entry in plain[section].values()), section
    assert all(entry["source"] for entry in plain["measured"])
    assert set(plain["prices"]) == set(plain["gpus"])
    assert all(str(entry["date"]).startswith("20") for entry in plain["prices"].values())


def test_prices_of_ones_own(tmp_path: Path) -> None:
    path = mine(
        tmp_path,
        "prices: {h100: {usd_per_hour: 1.5, source: our contract, date: '2027-01-01'}}\n"
        "measured: [{gpu: a100, model: llama-3.1-8b, precision: bf16, step_ms: 10, source: us}]\n",
    )
    catalogue = load(path)
    assert offer(catalogue, "h100", MODEL, "bf16").price.usd_per_hour == 1.5
    assert offer(catalogue, "h200", MODEL, "bf16").price == load().prices["h200"]
    a100 = offer(catalogue, "a100", MODEL, "bf16")
    assert a100.profile.step == picoseconds(10e-3)
    assert "step_ms" not in a100.derived and len(a100.derived) == 5
    assert a100.source == "us"


def test_the_documented_file_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    catalogue = load(mine(tmp_path, block))
    assert offer(catalogue, "mi300x", "ours-13b", "fp8").profile.kv_tokens > 500_000
    assert catalogue.prices["h100"].source == "contract 4711"
    assert offer(catalogue, "h200", MODEL, "bf16").profile.step == picoseconds(5.9e-3)


def test_a_gpu_of_ones_own_needs_a_price(tmp_path: Path) -> None:
    gpu = (
        "gpus: {t9: {name: T9, memory_gb: 100, bandwidth_gb_s: 1000, bf16_tflops: 100, "
        "source: lab}}\n"
    )
    with pytest.raises(Unfit, match="nothing says what a t9 costs"):
        offer(load(mine(tmp_path, gpu)), "t9", MODEL, "bf16")
    price = "prices: {t9: {usd_per_hour: 1, source: lab, date: '2027-01-01'}}\n"
    assert offer(load(mine(tmp_path, gpu + price)), "t9", MODEL, "bf16").profile.kv_tokens > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices: {h100: {usd_per_hour: 0, source: x, date: '2027-01-01'}}", "mine.yaml:1:"),
        ("prices: {h100: {usd_per_hour: 1, date: '2027-01-01'}}", "source"),
        ("prices: {h100: {usd_per_hour: 1, source: x, date: soon}}", "mine.yaml:1:"),
        ("gpus: {h100: {memory: 80}}", "memory_gb"),
        ("speeds: {}", "speeds"),
        ("measured: [{gpu: h100, model: m, precision: int3, source: x}]", "bf16, fp8"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(mine(tmp_path, text + "\n"))
    assert message in " ".join(str(finding) for finding in raised.value.findings)
