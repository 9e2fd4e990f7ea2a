"""What a fleet can bear, to which a load in per cent refers.

The highest rates at which the oracle answers at least 90 % of the requests in time (see
``router.sim.measures``), with eight replicas on the whole trace. They are of an earlier study with
the same engine model; with this simulator it answers 92 to 97 % in time at them.
"""

from typing import Final

REPLICAS: Final = 8

CAPACITY: Final = {
    ("mooncake_conversation", "off"): 11.1,
    ("mooncake_conversation", "hbm"): 8.4,
    ("toolagent_like", "off"): 23.6,
    ("toolagent_like", "hbm"): 18.3,
}
"""Requests a second, by trace and regime."""


def capacity(trace: str, regime: str, replicas: float) -> float:
    """Requests a second that so many replicas bear.

    Raises:
        KeyError: nobody has measured it.
    """
    return CAPACITY[trace, regime] * replicas / REPLICAS
