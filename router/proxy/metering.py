"""What a response has come to so far, for limits of LLM tokens.

Asked when an exchange with such a limit ends, and every second while it streams; nothing is done
for it as the bytes pass.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from router.core.admission.estimates import Consumption
from router.proxy.usage import usage as usage_of

if TYPE_CHECKING:
    from router.proxy.relay import Relay


class RelayMeter:
    """Implements ``core.admission.meter.Meter``.

    Args:
        relays: exchanges under way by serial.
    """

    def __init__(self, relays: Mapping[int, "Relay"]) -> None:
        self._relays = relays

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        relay = self._relays.get(serial)
        if relay is None or relay.reply is None:
            return Consumption()
        prompt = completion = None
        if usage and relay.reply.tells_usage:
            prompt, completion, _ = usage_of(relay.downstream.tail)
        body_bytes = relay.bytes_out - len(relay.reply.head) if relay.chunks else 0
        return Consumption(prompt, completion, relay.chunks, body_bytes)
