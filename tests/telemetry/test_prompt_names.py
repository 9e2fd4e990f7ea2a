"""What the access log calls the beginnings of prompts."""

from base64 import b64decode
from hashlib import blake2b, sha256

import msgspec

from router.config.log_format import parse
from router.core.prefix.blocks import checkpoints
from router.telemetry.access_text import line_writer
from router.telemetry.accesslog import AccessRing, json_line, readable
from router.telemetry.prompt_names import salted
from tests.telemetry.test_counting import record

SECRET = b"a secret of the deployment"
SHORT = checkpoints([b"a" * 1100], 1)
LONG = checkpoints([b"a" * 2000 + b"b" * 48], 1)


def told(secret: bytes = SECRET, **changes: object) -> dict[str, object]:
    ring = AccessRing()
    ring.append(record(**changes))
    line: dict[str, object] = msgspec.json.decode(readable(ring.take(), salted(json_line, secret)))
    return line


def names(secret: bytes = SECRET, prefix: tuple[int, ...] = SHORT) -> bytes:
    return b64decode(str(told(secret, prefix=prefix, prompt_bytes=1)["prefix"]))


def test_form() -> None:
    """As documented, for those who read it elsewhere."""
    line = told(prefix=SHORT, prompt_bytes=1100)
    key = sha256(SECRET).digest()
    first = blake2b(SHORT[0].to_bytes(8, "big"), digest_size=8, key=key).digest()
    assert line["prompt_bytes"] == 1100
    assert names()[:8] == first
    assert len(names()) == 8 * len(SHORT) == 16


def test_equal_beginnings_are_equal_with_one_salt_only() -> None:
    assert names(prefix=LONG)[:16] == names()
    assert names(prefix=LONG)[16:24] not in names()
    assert names(b"another secret") != names()
    assert not set(LONG) & {int.from_bytes(names(prefix=LONG)[at : at + 8]) for at in (0, 8, 16)}


def test_requests_without_a_prompt() -> None:
    assert told(prefix=(), prompt_bytes=0)["prefix"] == ""
    assert "prefix" not in told()
    assert "prompt_bytes" not in told()


def test_other_formats() -> None:
    write = salted(line_writer(parse("%RECORD(prefix)% %RECORD(prompt_bytes)%")), SECRET)
    ring = AccessRing()
    ring.append(record(prefix=SHORT, prompt_bytes=1100))
    ring.append(record())
    first, second = readable(ring.take(), write).splitlines()
    assert b64decode(first.split()[0]) == names()
    assert (first.split()[1], second) == (b"1100", b"- -")
