"""The board: one writer per cell, sums over the others, columns of the dead cleared."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control.board import Board, WorkerColumn, create_file
from router.control.slots import BoardFull, SlotTable

WRITER = """
import sys
from router.control.board import Board, WorkerColumn
fd, column, slot, count, key = map(int, sys.argv[1:])
board = Board(fd, 8, 3, 64)
column = WorkerColumn(board, column)
for value in range(count + 1):
    column.publish(slot, value)
board.affinity().put(key, slot)
print(column.others(slot))
"""


@pytest.fixture
def board():
    fd = create_file(8, 3, 64)
    board = Board(fd, 8, 3, 64)
    yield board, fd
    board.close()
    os.close(fd)


def test_processes_see_each_others_counts_and_conversations(board):
    shared, fd = board
    mine = WorkerColumn(shared, 0)
    mine.publish(5, 7)
    for column, count in ((1, 20), (2, 300)):
        args = [str(n) for n in (fd, column, 5, count, 0xABCDEF << 20 | column)]
        seen = subprocess.run(
            [sys.executable, "-c", WRITER, *args],
            pass_fds=[fd],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(seen.stdout) == 7 + (20 if column == 2 else 0)
    assert mine.others(5) == 320
    assert shared.total(5) == 327
    assert shared.by_worker(5) == [7, 20, 300]
    assert shared.total(4) == shared.total(6) == 0
    assert shared.affinity().get(0xABCDEF << 20 | 1) == 5


def test_clearing_a_column_leaves_the_others(board):
    shared, _ = board
    for column in range(3):
        for slot in range(8):
            WorkerColumn(shared, column).publish(slot, 10 * column + slot + 1)
    shared.clear_column(1)
    assert shared.by_worker(0) == [1, 0, 21]
    assert shared.by_worker(7) == [8, 0, 28]


def test_a_sole_worker_has_no_others():
    fd = create_file(4, 1, 4)
    board = Board(fd, 4, 1, 4)
    column = WorkerColumn(board, 0)
    column.publish(3, 9)
    assert column.others(3) == 0
    assert board.total(3) == 9
    board.close()
    os.close(fd)


@pytest.mark.parametrize(
    ("rows", "columns", "column", "named"),
    [(0, 1, 0, "rows"), (65536, 1, 0, "rows"), (4, 0, 0, "columns"), (4, 2, 2, "column")],
)
def test_sizes_out_of_range_are_refused(rows, columns, column, named):
    fd = os.memfd_create("test")
    os.ftruncate(fd, 1 << 22)
    try:
        with pytest.raises(ValueError, match=named):
            WorkerColumn(Board(fd, rows, columns, 4), column)
    finally:
        os.close(fd)


class TestSlots:
    def test_a_key_keeps_its_row_over_reloads_and_absences(self):
        table = SlotTable(8, lambda row: True)
        first = table.assign(["a", "b", "c"])
        without = table.assign(["a", "c", "d"])
        assert without["a"] == first["a"]
        assert without["c"] == first["c"]
        assert without["d"] not in first.values()
        assert table.assign(["d", "b"])["b"] == first["b"]

    def test_rows_of_keys_that_left_are_given_away_last_and_only_when_idle(self):
        busy: set[int] = set()
        table = SlotTable(3, lambda row: row not in busy)
        rows = table.assign(["a", "b", "c"])
        busy = {rows["a"]}
        after = table.assign(["c", "x"])
        assert after["x"] == rows["b"], "a's row still counts requests"

    def test_a_full_board_says_so_and_stays_as_it_was(self):
        table = SlotTable(2, lambda row: True)
        rows = table.assign(["a", "b"])
        with pytest.raises(BoardFull, match=r"3 endpoints and clusters .* 2 rows"):
            table.assign(["a", "b", "c"])
        assert table.assign(["a", "b"]) == rows

    def test_an_endpoint_named_twice_has_one_row(self):
        assert SlotTable(2, lambda row: True).assign(["a", "a", "b"]).keys() == {"a", "b"}

    @given(st.lists(st.sets(st.sampled_from("abcdefgh"), max_size=4), max_size=12), st.data())
    def test_any_sequence_of_reloads(self, reloads, data):
        """Rows are never shared, survivors keep theirs, and busy rows are not given away."""
        busy: set[int] = set()
        table = SlotTable(5, lambda row: row not in busy)
        owner: dict[int, str] = {}
        before: dict[str, int] = {}
        for keys in reloads:
            try:
                rows = table.assign(sorted(keys))
            except BoardFull:
                assert len(keys | {owner[row] for row in busy}) > 5
                continue
            assert set(rows) == keys
            assert len(set(rows.values())) == len(rows)
            assert all(rows[key] == before[key] for key in keys & before.keys())
            for key, row in rows.items():
                assert row not in busy or owner[row] == key
                owner[row] = key
            busy = data.draw(st.sets(st.sampled_from(sorted(owner)))) if owner else set()
            before = rows


def test_sessions_are_the_machines():
    fd = create_file(4, 2, 4)
    one, other = Board(fd, 4, 2, 4), Board(fd, 4, 2, 4)
    one.sessions().put(1 << 60, 3, 10.0, 5.0)
    assert other.sessions().get(1 << 60, 12.0) == 3
    assert other.sessions().get(1 << 60, 15.1) is None
    assert list(other.failure_words) == [0] * 4
    one.close()
    other.close()
    os.close(fd)
