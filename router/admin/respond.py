"""What the admin API answers with: JSON, errors in the one shape, cache and safety headers."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

SAFE_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
}


class AdminError(Exception):
    """Ends a request with an error answer.

    Args:
        status: HTTP status.
        message: one sentence.
        param: the field at fault.
        code: a word for programs.
        more: further members of the error object.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.more = dict(more or {})

    def answer(self) -> web.Response:
        kind = "invalid_request_error" if self.status < 500 else "api_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json_answer({"error": error | self.more}, status=self.status)


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(
        body=body, status=status, content_type="application/json", headers=dict(headers or {})
    )


def not_found(kind: str, name: str, known: Iterable[str]) -> AdminError:
    """404 that names what was probably meant."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return AdminError(404, f"no {kind} {name!r}{hint}", param=kind, code=f"{kind}_not_found")
