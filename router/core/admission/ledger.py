"""Where the levels of buckets are kept, as the core sees it."""

from collections.abc import Sequence
from typing import Protocol

from router.core.admission.token_bucket import BucketSpec, Draw, Verdict


class Ledger(Protocol):
    """Where buckets are charged: a store of this machine, or one that all routers share."""

    def charge(self, draws: Sequence[Draw], now: float) -> float:
        """Take the amounts, whatever is there; negative ones are given back.

        Returns:
            the tokens that the bounds of debt forgave.
        """
        ...

    def owe(self, key: int, spec: BucketSpec, amount: float, now: float) -> None:
        """Charge this at the next ``flush`` or before; negative amounts are given back."""
        ...


class BucketStore(Ledger, Protocol):
    """Keeps levels by key. Bounded; a forgotten bucket is full again."""

    def take(self, draws: Sequence[Draw], now: float) -> tuple[Verdict, ...]:
        """Take all amounts in one step if every binding draw finds its own; nothing otherwise."""
        ...

    def flush(self, now: float) -> float:
        """Charge what is owed.

        Returns:
            the tokens that the bounds of debt forgave of what was owed since the last flush.
        """
        ...
