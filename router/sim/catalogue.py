"""GPUs, models and prices, from a file in which each figure names its source.

What an engine can do is taken from a measured profile where there is one, and else derived from
the GPU's published bandwidth and operations:

    step           = overhead + active parameters' bytes / (bandwidth * factor)
    prompt token   = 2 * active parameters / (operations * factor); so is a decoding sequence's
    pair of tokens = 4 * width * layers / (bf16 operations * factor)
    cached token   = 4 * layers * heads * head size bytes / (bandwidth * factor), in bf16
    room           = (memory * factor - parameters' bytes - reserve) / a cached token's bytes

Attention and the cache are in bf16 whatever the weights are in.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import msgspec

from router.config import check
from router.config.document import read
from router.config.findings import ConfigError
from router.config.load import read_texts
from router.config.section import Name, Section, Text, doc
from router.sim.data import GPUS
from router.sim.profile import Profile, picoseconds

Precision = Literal["bf16", "fp8"]
PRECISIONS: Final[tuple[str, ...]] = get_args(Precision)

BYTES: Final = {"bf16": 2, "fp8": 1}
"""Of a parameter."""

GIGA: Final = 1e9

Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e6)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Whole = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Unfit(ValueError):
    """An engine of that kind cannot be; says why."""


class Price(Section, frozen=True, kw_only=True):
    usd_per_hour: Annotated[Positive, doc("Of one GPU.")]
    source: Text
    date: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")],
        doc("When somebody saw it there."),
    ]


class Gpu(Section, frozen=True, kw_only=True):
    """Operations are those of a datasheet without sparsity."""

    name: Text
    memory_gb: Positive
    bandwidth_gb_s: Positive
    bf16_tflops: Positive
    fp8_tflops: Annotated[Positive | None, doc("None: weights in fp8 are computed in bf16.")] = None
    source: Text


class Model(Section, frozen=True, kw_only=True):
    """Of one kind of attention, with grouped heads; parameters in thousands of millions."""

    parameters: Positive
    active: Annotated[Positive, doc("Those that a step reads and a token is multiplied with.")]
    layers: Whole
    width: Annotated[Whole, doc("Query heads times their size.")]
    kv_heads: Whole
    head_dim: Whole
    source: Text

    @property
    def kv_bytes(self) -> int:
        """Of a cached token."""
        return 2 * BYTES["bf16"] * self.layers * self.kv_heads * self.head_dim


class Factor(Section, frozen=True, kw_only=True):
    value: Positive
    source: Text


class Portion(Section, frozen=True, kw_only=True):
    value: Share
    source: Text


class Derivation(Section, frozen=True, kw_only=True):
    """What of a datasheet's figures engines were seen to reach."""

    step_overhead_ms: Factor
    bandwidth: Portion
    prefill: Portion
    attention: Portion
    cache_read: Portion
    memory: Portion
    reserve_gb: Factor


class Measured(Section, frozen=True, kw_only=True):
    """An engine that somebody measured. What is missing is derived."""

    gpu: Name
    model: Name
    precision: Precision
    step_ms: Positive | None = None
    prefill_us: Positive | None = None
    context_ns: Positive | None = None
    decode_us: Positive | None = None
    kv_ns: Positive | None = None
    kv_tokens: Annotated[Annotated[int, msgspec.Meta(ge=1000)] | None, doc("Room.")] = None
    source: Text


class Catalogue(Section, frozen=True, kw_only=True):
    """``derived`` None: as the package has it."""

    prices: dict[Name, Price] = msgspec.field(default_factory=dict)
    gpus: dict[Name, Gpu] = msgspec.field(default_factory=dict)
    models: dict[Name, Model] = msgspec.field(default_factory=dict)
    derived: Derivation | None = None
    measured: tuple[Measured, ...] = ()


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One replica: a GPU with a model on it.

    Attributes:
        derived: figures that nobody measured.
        source: of those that somebody did; empty without any.
    """

    gpu: str
    profile: Profile
    price: Price
    derived: tuple[str, ...]
    source: str


def load(own: Path | None = None) -> Catalogue:
    """What comes with the package, and instead of it what a file of one's own says, name by name.

    Raises:
        ConfigError: a file does not make sense.
    """
    base = _read(GPUS)
    if own is None:
        return base
    mine = _read(own)
    return Catalogue(
        prices=base.prices | mine.prices,
        gpus=base.gpus | mine.gpus,
        models=base.models | mine.models,
        derived=mine.derived or base.derived,
        measured=(*mine.measured, *base.measured),
    )


def _read(path: Path) -> Catalogue:
    document = read(read_texts([path]), {})
    catalogue, problems = check.convert(document, Catalogue)
    if problems or catalogue is None:
        raise ConfigError(document.locate(problem) for problem in problems)
    return catalogue


def offer(catalogue: Catalogue, gpu: str, model: str, precision: str) -> Offer:
    """What a replica of this kind can do, and what it costs.

    Raises:
        Unfit: the catalogue does not know it, or it has no room for the model.
    """
    for kind, name, known in (("GPU", gpu, catalogue.gpus), ("model", model, catalogue.models)):
        if name not in known:
            raise Unfit(f"there is no {kind} {name!r}: there are {', '.join(sorted(known))}")
    if gpu not in catalogue.prices:
        raise Unfit(f"nothing says what a {gpu} costs")
    figures = _derived(catalogue, catalogue.gpus[gpu], catalogue.models[model], precision)
    key = (gpu, model, precision)
    measured = next(
        (one for one in catalogue.measured if (one.gpu, one.model, one.precision) == key), None
    )
    seen = {
        name: value
        for name in figures
        if measured is not None and (value := getattr(measured, name)) is not None
    }
    derived = tuple(name for name in figures if name not in seen)
    figures |= seen
    if figures["kv_tokens"] < 1:
        raise Unfit(
            f"{catalogue.models[model].parameters * BYTES[precision]:.0f} GB of weights in "
            f"{precision} leave no room for a cache in {catalogue.gpus[gpu].memory_gb:g} GB"
        )
    return Offer(
        gpu=gpu,
        profile=_profile(figures),
        price=catalogue.prices[gpu],
        derived=derived,
        source="" if measured is None else measured.source,
    )


def _derived(catalogue: Catalogue, gpu: Gpu, model: Model, precision: str) -> dict[str, float]:
    """By the names of ``Measured``."""
    factors = catalogue.derived
    assert factors is not None
    operations = gpu.bf16_tflops
    if precision == "fp8" and gpu.fp8_tflops is not None:
        operations = gpu.fp8_tflops
    bandwidth, size = gpu.bandwidth_gb_s, BYTES[precision]
    reading = model.active * size / (bandwidth * factors.bandwidth.value)  # s
    computing = 2 * model.active / (operations * 1e3 * factors.prefill.value)  # s
    pair = 4 * model.width * model.layers / (gpu.bf16_tflops * 1e12 * factors.attention.value)  # s
    cached = model.kv_bytes / (bandwidth * GIGA * factors.cache_read.value)  # s
    left = gpu.memory_gb * factors.memory.value - model.parameters * size - factors.reserve_gb.value
    return {
        "step_ms": factors.step_overhead_ms.value + reading * 1e3,
        "prefill_us": computing * 1e6,
        "context_ns": pair * 1e9,
        "decode_us": computing * 1e6,
        "kv_ns": cached * 1e9,
        "kv_tokens": left * GIGA // model.kv_bytes,
    }


def _profile(figures: dict[str, float]) -> Profile:
    return Profile(
        step=picoseconds(figures["step_ms"] * 1e-3),
        per_prefill_token=picoseconds(figures["prefill_us"] * 1e-6),
        per_token_context=picoseconds(figures["context_ns"] * 1e-9),
        per_decode=picoseconds(figures["decode_us"] * 1e-6),
        per_kv_token=picoseconds(figures["kv_ns"] * 1e-9),
        kv_tokens=int(figures["kv_tokens"]),
    )
