"""What a fleet can bear, to which a load in per cent refers.

The highest rates at which the oracle answers at least 90 % of the requests in time (see
``router.sim.measures``), with eight replicas on the whole trace; ``python -m bench.capacity``
measures them in this very simulator, to a per cent.
"""

from typing import Final

REPLICAS: Final = 8

CAPACITY: Final = {
    ("mooncake_conversation", "off"): 11.8,
    ("mooncake_conversation", "hbm"): 8.7,
    ("toolagent_like", "off"): 25.1,
    ("toolagent_like", "hbm"): 18.4,
}
"""Requests a second, by trace and regime."""

STUDY: Final = {
    ("mooncake_conversation", "off"): 11.1,
    ("mooncake_conversation", "hbm"): 8.4,
    ("toolagent_like", "off"): 23.6,
    ("toolagent_like", "hbm"): 18.3,
}
"""The same as an earlier study found them in a simulator of its own, with the same engine model and
the same definition. In this one the oracle answers 92 to 97 % in time at them. What targets ask
was found at these loads; no load of a run refers to them but that of
``python -m bench.routing --study-loads``."""


def capacity(trace: str, regime: str, replicas: float) -> float:
    """Requests a second that so many replicas bear.

    Raises:
        KeyError: nobody has measured it.
    """
    return CAPACITY[trace, regime] * replicas / REPLICAS
