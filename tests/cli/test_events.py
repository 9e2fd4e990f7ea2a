"""Lines of ``warmpath events``."""

from router.cli.events import line_of


def test_what_somebody_chose_forges_no_line() -> None:
    path = "/clusters/a/x\x1b[31mred\n12:00:00.000 audit      method=POST\u2028\u202e"
    line = line_of({"at": 0.0, "kind": "audit", "path": path, "added": ["a\nb"], "ok": True})
    assert line.isprintable()
    assert r"path=/clusters/a/x\x1b[31mred\n12:00:00.000 audit" in line
    assert line.endswith(r"\u2028\u202e added=[a\nb] ok=true")


def test_nothing_else_is_changed() -> None:
    event = {"at": 0.0, "kind": "drain", "endpoint": "c/[fd00::3]:8000", "why": "größer", "n": None}
    assert line_of(event).partition(" drain      ")[2] == "endpoint=c/[fd00::3]:8000 why=größer"
