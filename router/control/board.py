"""The board: what worker processes tell each other without asking.

One shared mapping. First the lock of the rate limits' buckets, see ``router.control.interlock``.
Then a table of in-flight counts, a row per slot (an endpoint or a cluster) and a column per worker;
a cell has exactly one writer, so no lock is needed, and a 64-bit cell is written whole. Then the
words of the affinity table, which every worker writes: see ``router.core.affinity`` for why that is
harmless. Then the buckets, see ``router.control.shared_buckets``. A word per row in which all
workers count an endpoint's failures in a row, see ``router.core.health.monitor``. Last the
sessions' words, see ``router.core.session.table``. Control makes the board, passes its file
descriptor to the workers and clears the column of a worker that died.
"""

import mmap
import os
import tempfile
from typing import Final

from router.control.interlock import SIZE as LOCK
from router.control.interlock import interlock, prepare
from router.control.shared_buckets import ENTRY, SharedBuckets
from router.core.affinity import AffinityTable
from router.core.session.table import SessionTable
from router.core.shared_load import SharedLoad

CELL: Final = 8
DEFAULT_ROWS: Final = 4096
DEFAULT_WORDS: Final = 1 << 16
BUCKETS: Final = 1 << 14
"""Rate limit buckets; a multiple of the ways of ``SharedBuckets``."""


SESSIONS: Final = 1 << 15
"""Sessions remembered at one time; a power of two."""
MANY: Final = 6
"""Workers above which their counts are summed up as a slice."""


class Board:
    """A mapping of ``rows * columns`` signed counts and ``words`` affinity words.

    Args:
        fd: file of at least :meth:`size` bytes, mapped shared. The board keeps its own mapping;
            the descriptor stays the caller's.
        rows: slots, 1 to 65535 (an affinity word has 16 bits for slot + 1).
        columns: worker processes, at least 1.
        words: affinity words, a power of two.

    Raises:
        ValueError: if a size is out of range.
    """

    def __init__(self, fd: int, rows: int, columns: int, words: int) -> None:
        if not 1 <= rows <= 65535:
            raise ValueError(f"rows must be between 1 and 65535, not {rows}")
        if columns < 1:
            raise ValueError(f"columns must be at least 1, not {columns}")
        self.rows = rows
        self.columns = columns
        self.words = words
        self._map = mmap.mmap(fd, self.size(rows, columns, words))
        view = memoryview(self._map)
        cells_end = LOCK + rows * columns * CELL
        self.cells: memoryview[int] = view[LOCK:cells_end].cast("q")
        words_end = cells_end + words * CELL
        self.affinity_words: memoryview[int] = view[cells_end:words_end].cast("Q")
        buckets_end = words_end + BUCKETS * ENTRY
        self._bucket_bytes = view[words_end:buckets_end]
        failures_end = buckets_end + rows * CELL
        self.failure_words: memoryview[int] = view[buckets_end:failures_end].cast("Q")
        self.session_words: memoryview[int] = view[failures_end:].cast("Q")
        self._lock = interlock(fd, self._map)

    @staticmethod
    def size(rows: int, columns: int, words: int) -> int:
        """Bytes that the file must have."""
        return LOCK + (rows * columns + words + rows + 2 * SESSIONS) * CELL + BUCKETS * ENTRY

    def total(self, slot: int) -> int:
        """In-flight count of one slot over all workers."""
        base = slot * self.columns
        return sum(self.cells[base : base + self.columns])

    def by_worker(self, slot: int) -> list[int]:
        base = slot * self.columns
        return list(self.cells[base : base + self.columns])

    def clear_column(self, column: int) -> None:
        """Forget what a worker wrote; only after it is dead."""
        cells, columns = self.cells, self.columns
        for index in range(column, len(cells), columns):
            if cells[index]:
                cells[index] = 0

    def affinity(self) -> AffinityTable:
        """The machine's memory of where conversations went."""
        return AffinityTable(self.affinity_words)

    def sessions(self) -> SessionTable:
        """The machine's memory of where sessions were sent."""
        return SessionTable(self.session_words)

    def buckets(self) -> SharedBuckets:
        """The machine's rate limit buckets. The board's descriptor must stay open where its lock is
        the file's."""
        return SharedBuckets(self._bucket_bytes, self._lock)

    def close(self) -> None:
        """Unmap. Views handed out before must not be used any more."""
        self.cells.release()
        self.affinity_words.release()
        self._bucket_bytes.release()
        self.failure_words.release()
        self.session_words.release()
        try:
            self._map.close()
        except BufferError:
            # An affinity table still holds the words; the mapping goes with it.
            return

    def __repr__(self) -> str:
        busy = sum(1 for cell in self.cells if cell)
        return f"<Board {self.rows}x{self.columns} busy_cells={busy} words={self.words}>"


class WorkerColumn(SharedLoad):
    """One worker's place on the board."""

    __slots__ = ("_cells", "_column", "_columns")

    def __init__(self, board: Board, column: int) -> None:
        if not 0 <= column < board.columns:
            raise ValueError(f"column must be between 0 and {board.columns - 1}, not {column}")
        self._cells = board.cells
        self._columns = board.columns
        self._column = column

    def others(self, slot: int) -> int:
        columns = self._columns
        if columns == 1:
            return 0
        base, cells, own = slot * columns, self._cells, self._column
        if columns > MANY:
            return sum(cells[base : base + columns]) - cells[base + own]
        # Of a few each by itself: a slice and its sum cost as much as six looks.
        total = 0
        for column in range(columns):
            if column != own:
                total += cells[base + column]
        return total

    def publish(self, slot: int, in_flight: int) -> None:
        self._cells[slot * self._columns + self._column] = in_flight

    def __repr__(self) -> str:
        return f"<WorkerColumn {self._column} of {self._columns}>"


def create_file(rows: int, columns: int, words: int) -> int:
    """A zeroed anonymous file for a board; returns its descriptor, which is the caller's."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("warmpath-board", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, Board.size(rows, columns, words))
    prepare(fd)
    return fd
