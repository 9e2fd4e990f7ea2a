"""What a router remembers, told to one that has just begun.

In portions, the most useful first in each part: what answers have taught, then for each endpoint
its pace and the checkpoints that it used last, then where prompts ended. A portion stands alone,
so that one which gets lost costs no more than what was in it. What is told is bounded: the whole
of a large mirror would take seconds to tell, and most of it is not asked for again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import (
    PORTION,
    EndsAt,
    Held,
    Learned,
    Note,
    Told,
    pack,
    unpack,
)
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK

ENTRIES: Final = 65_536
"""Checkpoints that are told of all endpoints together: a megabyte, in a second or so."""

FEWEST: Final = 512
"""Of each endpoint, however many there are."""

ENDINGS: Final = 8192
"""Ends of prompts, of all clusters together."""

_OLDEST: Final = 1 << 62


def recollections(forecasts: Mapping[str, Forecast]) -> Iterator[list[Note]]:
    """All that is worth telling; each portion is made when it is asked for."""
    outlooks = [one for forecast in forecasts.values() for one in forecast.outlooks()]
    each = max(FEWEST, ENTRIES // max(1, len(outlooks)))
    for cluster, forecast in forecasts.items():
        yield [_learned(cluster, forecast)]
        for id_, outlook in list(forecast.outlooks()):
            found = forecast.mirror.recent(outlook.page, each)
            for start in range(0, max(1, len(found)), PORTION):
                part = found[start : start + PORTION]
                checkpoints = pack([checkpoint for checkpoint, _ in part])
                ages = pack([min(_OLDEST, round(age)) for _, age in part])
                yield [Held(id_, outlook.observed, outlook.predicted, checkpoints, ages)]
    for cluster, forecast in forecasts.items():
        ends = forecast.mirror.ends.recent(ENDINGS // len(forecasts))
        for start in range(0, len(ends), PORTION):
            part = ends[start : start + PORTION]
            sizes = pack([round(blocks * BLOCK) for _, blocks in part])
            yield [EndsAt(cluster, pack([key for key, _ in part]), sizes)]
    yield [Told()]


def _learned(cluster: str, forecast: Forecast) -> Learned:
    mirror, trust = forecast.mirror, forecast.trust
    return Learned(
        cluster,
        mirror.capacity,
        mirror.corrections,
        forecast.bytes_per_token,
        trust.believed,
        trust.error,
        trust.answers,
    )


def recall(
    notes: Sequence[Note],
    clusters: Mapping[str, Forecast],
    endpoints: Mapping[EndpointId, Forecast],
) -> bool:
    """Take these in; notes of other kinds are left to others.

    Returns:
        whether that was all.
    """
    over = False
    for note in notes:
        match note:
            case Learned(cluster=cluster) if cluster in clusters:
                _learn(clusters[cluster], note)
            case Held(endpoint=endpoint) if endpoint in endpoints:
                _hold(endpoints[EndpointId(endpoint)], note)
            case EndsAt(cluster=cluster) if cluster in clusters:
                ends = zip(unpack(note.keys), unpack(note.bytes_), strict=False)
                mirror = clusters[cluster].mirror
                mirror.ends.recall([(key, size / BLOCK) for key, size in ends])
            case Told():
                over = True
    return over


def _learn(forecast: Forecast, note: Learned) -> None:
    if note.answers > forecast.trust.answers:
        forecast.bytes_per_token = note.bytes_per_token
    forecast.trust.adopt(note.believed, note.error, note.answers)
    forecast.mirror.adopt(note.capacity, note.corrections)


def _hold(forecast: Forecast, note: Held) -> None:
    outlook = forecast.of(EndpointId(note.endpoint))
    outlook.recall(note.observed, note.predicted)
    ages = map(float, unpack(note.ages))
    found = list(zip(unpack(note.checkpoints), ages, strict=False))
    forecast.mirror.recall(outlook.page, found)
