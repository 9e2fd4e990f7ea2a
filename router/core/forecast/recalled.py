"""A forecast made of what was seen of another: see ``seen``."""

from router.core.forecast.forecast import Forecast
from router.core.forecast.seen import ForecastSeen
from router.core.load import LoadReport
from router.core.model import EndpointId, LlmRequest


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
            outlook.unheard = one.unheard
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
