"""What the access log calls the beginnings of prompts.

A checkpoint is a plain hash: who guesses a text can see whether it was asked. So the log has other
names, BLAKE2b of the checkpoint with a secret as its key. Equal beginnings keep equal names, which
is all that replaying the traffic needs.
"""

from base64 import b64encode
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Any

from router.telemetry.accesslog import Line

NAME_BYTES = 8


def salted(line: Line, secret: bytes) -> Line:
    """A writer of lines that first gives the prefix of a record its names.

    Args:
        line: writes the record.
        secret: of any length; the same one gives the same names.
    """
    key = sha256(secret).digest()

    def write(record: dict[str, Any]) -> bytes:
        if record["prefix"] is not None:
            record["prefix"] = names(record["prefix"], key)
        return line(record)

    return write


def names(checkpoints: Iterable[int], key: bytes) -> str:
    """Eight bytes for each checkpoint, the shallowest first, all of them as Base64."""
    return b64encode(
        b"".join(
            blake2b(checkpoint.to_bytes(8, "big"), digest_size=NAME_BYTES, key=key).digest()
            for checkpoint in checkpoints
        )
    ).decode("ascii")
