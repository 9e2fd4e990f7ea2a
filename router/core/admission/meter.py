"""How the core learns what a response has come to."""

from typing import Protocol

from router.core.admission.estimates import Consumption


class Meter(Protocol):
    """What the driver has seen of a response so far."""

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        """Of the exchange of this number; ``usage``: look for the engine's own count, too."""
        ...


class NoMeter:
    """The meter of a face that relays nothing."""

    def consumed(self, serial: int, *, usage: bool) -> Consumption:
        return Consumption()
