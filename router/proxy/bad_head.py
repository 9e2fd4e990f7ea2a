"""What is wrong with a request head that does not match the grammar, in the client's terms."""

import re

from router.core import errors

_VERSION = re.compile(rb"[^ ]+ [^ ]+ HTTP/(\d)\.(\d)\r\n")


def diagnose(raw: bytes) -> errors.RouterError:
    """Why a head does not match the grammar."""
    version = _VERSION.match(raw)
    if version is not None and version.groups() not in ((b"1", b"0"), (b"1", b"1")):
        return errors.VersionNotSupported("only HTTP/1.0 and HTTP/1.1 are supported")
    line = raw.partition(b"\r\n")[0]
    if not re.fullmatch(rb"[A-Z]+ [!-~]+ HTTP/1\.[01]", line):
        return errors.BadRequest("malformed request line", param="request-line")
    if re.search(rb"(?<!\r)\n|\r(?!\n)", raw):
        return errors.BadRequest("a line of the head does not end in CRLF", param="headers")
    if re.search(rb"\r\n[ \t]", raw):
        return errors.BadRequest("folded header lines are not accepted", param="headers")
    return errors.BadRequest("malformed header line", param="headers")


def refuse_early(partial: bytes) -> errors.RouterError | None:
    """Whether an incomplete head can already not become a good one."""
    if not 0x41 <= partial[0] <= 0x5A:
        return errors.BadRequest("malformed request line", param="request-line")
    if re.search(rb"(?<!\r)\n", partial):
        return errors.BadRequest("a line of the head does not end in CRLF", param="headers")
    return None
