"""How a session is known; frozen, part of a cluster."""

from typing import Literal

import msgspec

Kind = Literal["cookie", "header", "user", "source_address"]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is known by.

    ``name``: of the cookie or header. ``ttl``: seconds; of a cookie from when it was issued, 0
    until the browser ends; otherwise from the session's last request. ``attributes``: what follows
    the cookie's value.
    """

    kind: Kind
    name: str = ""
    ttl: float = 0.0
    attributes: str = ""
