"""What a scorer is: it says of each endpoint how good it would be, from 0 to 1."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Protocol, cast, runtime_checkable

import msgspec

from router.core.host import HostState
from router.core.memory import ClusterMemory
from router.core.model import LlmRequest


class Scorer(Protocol):
    def score(
        self, request: LlmRequest, hosts: Sequence[HostState], now: float
    ) -> Sequence[float] | None:
        """A score for each host, more is better; None: it knows nothing of any."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A scorer that wants to know where requests go."""

    def chosen(self, request: LlmRequest, host: HostState) -> None: ...


class ScorerSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of the scorers' configuration; their YAML as a tagged union."""

    reads_prompt: ClassVar[bool] = False
    """Whether it looks at the checkpoints of prompts."""

    reads: ClassVar[str | None] = None
    """The field of engines' load reports that it looks at, so that they have to be scraped."""

    weight: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 1.0

    def build(self, memory: ClusterMemory) -> Scorer:
        raise NotImplementedError


def fewest_best(figures: Sequence[float | None]) -> Sequence[float] | None:
    """Scores within the range of the figures: the lowest 1, the highest 0, all alike 1, as the
    Inference Extension has them. Who is not known is taken for average; None: nobody is known."""
    known = _known(figures)
    if not known:
        return None
    low, high = min(known), max(known)
    if low == high:
        return [1.0] * len(figures)
    scale = 1.0 / (high - low)
    if known is figures:
        return [(high - figure) * scale for figure in known]
    return neutral([None if figure is None else (high - figure) * scale for figure in figures])


def neutral(scores: Sequence[float | None]) -> Sequence[float] | None:
    """The mean of the known scores for those that are not known; None if none is known."""
    known = _known(scores)
    if known is scores or not known:
        return known or None
    mean = sum(known) / len(known)
    return [mean if score is None else score for score in scores]


def by_weight(
    figures: Sequence[float | None], hosts: Sequence[HostState]
) -> Sequence[float | None]:
    """Loads as they are compared: of an endpoint of twice the weight, half."""
    if len({host.weight for host in hosts}) == 1:
        return figures
    return [
        None if figure is None else figure / host.weight
        for figure, host in zip(figures, hosts, strict=True)
    ]


def _known(figures: Sequence[float | None]) -> Sequence[float]:
    """Those that are; the very same sequence where all are."""
    if None not in figures:
        return cast("Sequence[float]", figures)
    return [figure for figure in figures if figure is not None]
