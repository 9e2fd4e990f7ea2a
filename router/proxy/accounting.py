"""What is reported of an exchange when it is over."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.core.exchange import Exchange
from router.telemetry.record import ExchangeRecord

if TYPE_CHECKING:
    from router.proxy.relay import Relay

_PROMPT = re.compile(rb'"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})')
_COMPLETION = re.compile(rb'"(?:completion|output)_tokens"\s*:\s*(\d{1,12})')
_CACHED = re.compile(rb'"(?:cached_tokens|cache_read_input_tokens)"\s*:\s*(\d{1,12})')

USAGE_SPAN = 1024
"""Bytes after ``"usage"`` that are looked at."""

Usage = tuple[int | None, int | None, int | None]


def usage(tail: Iterable[bytes]) -> Usage:
    """(prompt, completion, cached) tokens from the end of a response; None where not said.

    A quote inside a JSON string is escaped, so generated text cannot pass for the field.
    """
    data = b"".join(tail)
    position = data.rfind(b'"usage"')
    if position < 0:
        return None, None, None
    span = data[position : position + USAGE_SPAN]
    return _number(_PROMPT, span), _number(_COMPLETION, span), _number(_CACHED, span)


def _number(pattern: re.Pattern[bytes], span: bytes) -> int | None:
    matched = pattern.search(span)
    return int(matched[1]) if matched else None


def record_of(relay: "Relay", exchange: Exchange, now: float) -> ExchangeRecord:
    """The record of an exchange that has just ended."""
    request, route, traffic = exchange.request, exchange.route, exchange.traffic
    prompt = completion = cached = None
    if relay.reply is not None and relay.reply.tells_usage:
        prompt, completion, cached = usage(relay.downstream.tail)
    arrived = relay.arrived
    head_at, first_body_at = exchange.head_at, relay.first_body_at
    return ExchangeRecord(
        request_id=request.id,
        method=request.method,
        path=request.path,
        client=request.client,
        route="-" if route is None else route.name,
        cluster="-" if traffic is None else traffic.cluster.name,
        endpoint=exchange.tried[-1] if exchange.tried else "-",
        model=request.model or "-",
        stream=request.stream,
        status=exchange.status,
        flag=exchange.flag,
        reason=exchange.reason,
        attempts=exchange.attempt,
        started_at=relay.arrived_wall,
        duration=now - arrived,
        queued=exchange.queued_for,
        first_byte=None if head_at is None else head_at - arrived,
        ttft=None if first_body_at is None else first_body_at - arrived,
        bytes_in=relay.bytes_in,
        bytes_out=relay.bytes_out,
        chunks=relay.chunks,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
    )
