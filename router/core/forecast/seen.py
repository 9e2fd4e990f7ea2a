"""What a forecast says of one request, to be looked at elsewhere.

A worker knows it and must not be kept from its streams; whoever explains a decision has the time,
and the same code to make it with: see ``recalled``.
"""

from collections.abc import Sequence

import msgspec

from router.core.forecast.forecast import Forecast
from router.core.prefix.blocks import BLOCK


class OutlookSeen(msgspec.Struct, frozen=True, array_like=True):
    """Of one endpoint: ``wait`` and ``unheard`` in seconds, ``held`` in blocks of the prompt."""

    id: str
    wait: float
    pace: float
    decoding: int
    context: float
    held: float
    unheard: float


class ForecastSeen(msgspec.Struct, frozen=True):
    """Of one cluster."""

    bytes_per_token: float
    believed: bool
    endpoints: tuple[OutlookSeen, ...]


def see(
    forecast: Forecast,
    checkpoints: Sequence[int],
    prompt_bytes: int,
    conversation: int,
    now: float,
) -> ForecastSeen:
    """About a microsecond for each endpoint."""
    outlooks = list(forecast.outlooks())
    among = 0
    for _, outlook in outlooks:
        among |= 1 << outlook.page.index
    held = forecast.mirror.held(checkpoints, prompt_bytes / BLOCK, conversation, among)
    return ForecastSeen(
        forecast.bytes_per_token,
        forecast.trust.believed,
        tuple(
            OutlookSeen(
                id_,
                outlook.wait(now),
                outlook.pace,
                outlook.decoding,
                outlook.context,
                held.get(outlook.page.index, 0.0),
                outlook.unheard,
            )
            for id_, outlook in outlooks
        ),
    )
