"""What a forecast says of one request, to be looked at elsewhere.

A worker knows it and must not be kept from its streams; whoever explains a decision has the time,
and the same code to make it with: ``Recalled`` is a forecast made of what was seen.
"""

from collections.abc import Sequence

import msgspec

from router.core.forecast.forecast import Forecast
from router.core.load import LoadReport
from router.core.model import EndpointId, LlmRequest
from router.core.prefix.blocks import BLOCK


class OutlookSeen(msgspec.Struct, frozen=True, array_like=True):
    """Of one endpoint: ``wait`` in seconds, ``held`` in blocks of the request's prompt."""

    id: str
    wait: float
    pace: float
    decoding: int
    context: float
    held: float


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
            )
            for id_, outlook in outlooks
        ),
    )


class Recalled(Forecast):
    """A forecast that knows of one request what was seen, and of no other."""

    __slots__ = ("_held",)

    def __init__(self, seen: ForecastSeen) -> None:
        super().__init__()
        self.bytes_per_token = seen.bytes_per_token
        self.trust.believed = seen.believed
        self._held: dict[EndpointId, float] = {}
        for one in seen.endpoints:
            outlook = self.of(EndpointId(one.id))
            outlook.pace = one.pace
            outlook.decoding = one.decoding
            outlook.context = one.context
            outlook.heed(one.wait / one.pace)
            outlook.fold()
            self._held[outlook.id] = one.held

    def expected(self, request: LlmRequest, among: int) -> dict[int, float]:
        found = {
            outlook.page.index: held
            for id_, outlook in self.outlooks()
            if among >> outlook.page.index & 1 and (held := self._held.get(id_, 0.0))
        }
        return self.asked(request, among, found)

    def reported(self, id_: EndpointId, load: LoadReport | None) -> None:
        """It is a part of the wait already."""
