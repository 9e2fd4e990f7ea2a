"""Header values that the access log's format asks for, kept when an exchange ends."""

from typing import TYPE_CHECKING

from router.config.accesslog import AccessLog
from router.config.log_format import headers

if TYPE_CHECKING:
    from router.core.model import LlmRequest
    from router.proxy.response_head import ResponseHead

MAX_VALUE = 1024
"""Characters kept of a value."""


class LogFields:
    """Reads them.

    Args:
        wanted: lower-case names of the request's headers, and of the response's.
    """

    def __init__(self, wanted: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        request, response = wanted
        self._request = {name.encode(): f"REQ:{name}" for name in request}
        self._response = {name.encode(): f"RESP:{name}" for name in response}

    def of(self, request: "LlmRequest", response: "ResponseHead | None") -> dict[str, str]:
        """By ``REQ:name`` and ``RESP:name``; only those that there are."""
        found = {
            ":authority": request.authority,
            ":scheme": request.scheme,
            "x-request-id": request.id,
        }
        kept = {
            label: found[name.decode()][:MAX_VALUE]
            for name, label in self._request.items()
            if name.decode() in found
        }
        for name, value in request.headers:
            if (label := self._request.get(name)) is not None and label not in kept:
                kept[label] = value[:MAX_VALUE].decode("latin-1")
        if response is not None and self._response:
            for line in response.shape.start.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if (label := self._response.get(name.lower())) is not None:
                    kept.setdefault(label, value.strip()[:MAX_VALUE].decode("latin-1"))
        return kept


def fields_for(settings: AccessLog) -> LogFields | None:
    """None where no header is asked for."""
    wanted = headers(settings.format.pieces())
    return LogFields(wanted) if any(wanted) else None
