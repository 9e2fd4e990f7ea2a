"""What clients do wrong on the wire is a line in the log, and not an error of the server.

aiohttp logs a request that it cannot parse as an error with its traceback, so that anybody who
speaks TLS to the port or sends a garbled head would fill the log with them.
"""

from __future__ import annotations

import logging

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError


def without_tracebacks(record: logging.LogRecord) -> bool:
    """A filter for aiohttp's logger: requests that broke the protocol are told at INFO, briefly."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | RequestPayloadError):
        record.msg, record.args = "%s: %s", (record.getMessage(), reason_of(error))
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        return logging.getLogger(record.name).isEnabledFor(logging.INFO)
    return True


def reason_of(error: Exception) -> str:
    """What aiohttp has against a request, on one line."""
    return " ".join(str(error).rpartition("message:")[2].split())
