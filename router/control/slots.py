"""Which row of the board belongs to which endpoint or cluster.

A key keeps its row over reloads. The row of a key that left stays reserved for it as long as there
are rows never used: the affinity table remembers conversations by row, and workers may still be
finishing requests there. Only then is the row that left longest ago, and is idle, given away.
"""

from collections.abc import Callable, Iterable


class BoardFull(ValueError):
    """More endpoints and clusters than the board has rows."""


class SlotTable:
    """Rows by key.

    Args:
        rows: how many there are.
        idle: tells whether nobody counts anything in a row any more.
    """

    def __init__(self, rows: int, idle: Callable[[int], bool]) -> None:
        self._rows = rows
        self._idle = idle
        self._by_key: dict[str, int] = {}
        self._retired: dict[str, int] = {}  # oldest first
        self._fresh = 0

    def assign(self, keys: Iterable[str]) -> dict[str, int]:
        """The rows of exactly these keys; keys not among them are retired.

        Raises:
            BoardFull: nothing has changed then.
        """
        wanted = list(dict.fromkeys(keys))
        retired = self._retired | {k: v for k, v in self._by_key.items() if k not in set(wanted)}
        assigned: dict[str, int] = {}
        newcomers: list[str] = []
        for key in wanted:
            known = self._by_key.get(key)
            row = known if known is not None else retired.pop(key, None)
            if row is None:
                newcomers.append(key)
            else:
                assigned[key] = row
        fresh = self._fresh
        reusable = [key for key, row in retired.items() if self._idle(row)]
        if len(newcomers) > self._rows - fresh + len(reusable):
            raise BoardFull(
                f"{len(wanted)} endpoints and clusters do not fit on the board of {self._rows} rows"
            )
        for key in newcomers:
            if fresh < self._rows:
                assigned[key] = fresh
                fresh += 1
            else:
                assigned[key] = retired.pop(reusable.pop(0))
        self._by_key, self._retired, self._fresh = assigned, retired, fresh
        return dict(assigned)

    def get(self, key: str) -> int | None:
        return self._by_key.get(key)

    def __repr__(self) -> str:
        return f"<SlotTable {len(self._by_key)} used, {len(self._retired)} retired of {self._rows}>"
