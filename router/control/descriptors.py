"""How many files may be open: a stream takes two descriptors of its worker.

Shells and service managers start processes with a soft limit of 1024 for the sake of programs that
use select(2), and with a hard one far above. Here the hard one counts, for control and for workers,
which inherit it.
"""

import resource

MOST = 1 << 20
"""Some containers have a hard limit of a thousand million; nobody needs it."""

FEW = 4096
"""Below, a worker soon runs out: it resets connections that it has no descriptor for."""


def raise_limit() -> int:
    """Make the soft limit as high as may be; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if wanted <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems have a lower limit still
        return soft
    return wanted
