"""The store of limits that all routers share, as the core sees it."""

from typing import Literal, Protocol

import msgspec

from router.core.admission.claims import Ticket
from router.core.admission.ledger import Ledger
from router.core.admission.token_bucket import Draw

OnFailure = Literal["local_share", "allow", "deny"]


class SharedStore(msgspec.Struct, frozen=True, kw_only=True):
    """How to live with the store that all routers share.

    Attributes:
        timeout: seconds that a request waits for its answer.
        on_failure: what a request gets that has none: its part of the limit from a bucket of this
            machine, everything, or a refusal.
        machines: routers that share the limits; a part is one of so many.
    """

    timeout: float = 0.05
    on_failure: OnFailure = "local_share"
    machines: int = 1


class Shared(Ledger, Protocol):
    """The store that all routers share, as the core sees it. Nothing here waits."""

    def ask(self, serial: int, draws: tuple[Draw, ...]) -> Ticket | None:
        """Put a question; the driver feeds the exchange of this number ``Verdicts`` later.

        None: the store is known to be gone, so there is nothing to wait for.
        """
        ...
