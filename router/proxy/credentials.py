"""Credentials in heads: the client's taken out, an engine's put in.

A client's key is for the router. Where there are tenants, or the engines want a credential of their
own, what the client sent goes no further. A head that is sent again and again is changed once.
"""

from router.core import errors
from router.proxy.headers import RequestHead

MAX_REMEMBERED = 1024
_BEARER = b"bearer "
_CREDENTIALS = (b"authorization", b"x-api-key")
_HTTP, _HTTPS = b"x-forwarded-proto: http\r\n", b"x-forwarded-proto: https\r\n"

# By the front of a head and the names of the fields that are taken out.
_stripped: dict[tuple[bytes, tuple[bytes, ...]], bytes] = {}


def credential_of(head: RequestHead) -> bytes | None:
    """A bearer token, or the key in ``x-api-key``, as Anthropic's clients send it; None if neither.

    Raises:
        Unauthorized: an Authorization of another kind, or several of either.
    """
    tokens = [value for name, value in head.fields if name == b"authorization"]
    if len(tokens) == 1 and tokens[0][:7].lower() == _BEARER:
        return tokens[0][7:].strip()
    if tokens:
        raise errors.Unauthorized(
            "The Authorization header is not a single Bearer token.", reason="malformed"
        )
    keys = [value for name, value in head.fields if name == b"x-api-key"]
    if len(keys) > 1:
        raise errors.Unauthorized("There is more than one x-api-key header.", reason="malformed")
    return keys[0] if keys else None


def without_credentials(head: RequestHead) -> None:
    """Let the client's credentials go no further."""
    head.front = _without(head.front, _CREDENTIALS)


def over_tls(head: RequestHead) -> None:
    """Tell the engine that the client came over TLS, unless a proxy in front said how it came."""
    head.middle = head.middle.replace(_HTTP, _HTTPS)


def with_credential(head: RequestHead, line: bytes) -> RequestHead:
    """The head with an engine's credential in the place of the client's.

    Args:
        line: the header line, without CRLF.
    """
    dressed = RequestHead(head.shape, head.length, head.fields, head.request_id)
    name = line.partition(b":")[0]
    front = _without(head.front, (*_CREDENTIALS, name))
    first, end, rest = front.partition(b"\r\n")
    dressed.front, dressed.middle = first + end + line + end + rest, head.middle
    return dressed


def _without(front: bytes, names: tuple[bytes, ...]) -> bytes:
    key = front, names
    stripped = _stripped.get(key)
    if stripped is None:
        first, *lines = front.split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in names]
        stripped = b"\r\n".join([first, *kept])
        if len(_stripped) >= MAX_REMEMBERED:
            _stripped.clear()
        _stripped[key] = stripped
    return stripped
