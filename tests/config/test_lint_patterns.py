"""Which regular expressions run away, compared with how long they really take."""

import re
import subprocess
import sys

import pytest

from router.config.lint_patterns import runs_away

BAD = [
    (r"(a+)+", "a" * 40 + "!"),
    (r"(a*)*b", "a" * 40),
    (r"/v1/(\w+\s?)*", "/v1/" + "a" * 40 + "!"),
    (r"(.*,)*x", "," * 40),
    (r"([a-z]+)*/end", "a" * 40),
    (r"(?:(?:a+)b?)+", "a" * 40 + "!"),
    (r"(x|(a+))*y", "a" * 40),
    (r"(a{1,30}){1,30}b", "a" * 40),
    (r"(\d+\d)*x", "1" * 60),
]
GOOD = [
    r"/v1/.*",
    r"(/[^/]+)*",
    r"([a-z]+\.)*example\.com",
    r"[a-z]+(-[a-z0-9]+)*",
    r"(\d+\.){3}\d+",
    r"(a|b|cd)+",
    r"(gold|silver)",
    r"v\d+(\.\d+)?",
    r"(?>a+)+",
    r"(a++)+",
    r"(ab+)*",
    r"(a+){2}",
]


@pytest.mark.parametrize(("pattern", "text"), BAD)
def test_what_runs_away(pattern: str, text: str) -> None:
    assert runs_away(pattern)
    script = f"import re; re.fullmatch({pattern!r}, {text!r})"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-S", "-c", script], timeout=0.7, check=False)


@pytest.mark.parametrize("pattern", GOOD)
def test_what_does_not(pattern: str) -> None:
    assert re.compile(pattern)
    assert not runs_away(pattern)
