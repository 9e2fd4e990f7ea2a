"""What a reload's report says, as a table."""

import pytest

from router.control.differences import MAX_LINES, differences


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["~ a: 1 -> 2"]),
        ({"a": {"b": "x"}}, {"a": {"b": "y", "c": 1}}, ["~ a.b: x -> y", "+ a.c"]),
        ({"a": {"b": None}}, {"a": {"b": {"c": 1}}}, ["~ a.b: None -> {'c': 1}"]),
        ({"l": [{"name": "x"}]}, {"l": [{"name": "y"}, {"name": "x"}]}, ["+ l[y]"]),
        ({"l": ({"address": "h:1"},)}, {"l": ()}, ["- l[h:1]"]),
        (
            {"l": [{"name": "x", "w": 1}, {"name": "y", "w": 1}]},
            {"l": [{"name": "y", "w": 1}, {"name": "x", "w": 2}]},
            ["~ l[x].w: 1 -> 2", "~ l: order"],
        ),
        ({"l": [1, 2]}, {"l": [1, 3]}, ["~ l: [1, 2] -> [1, 3]"]),
        ({"a": "x" * 100}, {"a": ""}, [f"~ a: {'x' * 59}… -> "]),
    ],
)
def test_lines(before, after, lines):
    assert differences(before, after) == lines


def test_a_report_is_bounded():
    lines = differences({}, {f"k{n}": 1 for n in range(1000)})
    assert len(lines) == MAX_LINES + 1
    assert lines[-1] == "... and 800 more"
