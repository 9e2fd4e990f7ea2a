"""Retry-After (RFC 9110 10.2.3): seconds, or a date."""

import re
import time
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,6})?")


def seconds_after(value: bytes) -> float:
    """Seconds from now until the time that the field names; 0 if it is past or cannot be read.

    Fractions are no part of the standard, but some engines send them.
    """
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        due = parsedate_to_datetime(value.decode("ascii"))
    except ValueError:
        return 0.0
    return max(0.0, due.timestamp() - time.time())
