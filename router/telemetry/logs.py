"""Control's own logs: structured, on standard error, as text on a terminal and JSON elsewhere."""

import logging
import sys
from typing import Any, Literal

import structlog

Format = Literal["auto", "text", "json"]


def configure(level: str = "info", format_: Format = "auto") -> None:
    """Set up structlog for this process.

    Args:
        level: debug, info, warning or error.
        format_: auto: text if standard error is a terminal, else JSON.
    """
    text = sys.stderr.isatty() if format_ == "auto" else format_ == "text"
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(part: str) -> Any:
    """A logger whose lines carry ``part``, the component that speaks."""
    return structlog.get_logger(part=part)
