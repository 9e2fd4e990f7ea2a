"""One exchange as it will be counted and logged."""

from dataclasses import dataclass


@dataclass(init=False)
class ExchangeRecord:
    """Filled by a face when an exchange has ended. Durations in seconds; ``-`` for unknown text.

    ``first_byte`` is from the request's arrival to the response head, ``ttft`` to the first byte
    of the response body, both None if it never came. ``chunks`` counts reads relayed.
    ``hedges`` of the ``attempts`` were made beside another. Token
    counts come from the response's ``usage`` and are None where it had none. Made on the data path:
    a constructor written out compiles to stores, where dataclasses' own is interpreted.
    """

    request_id: str
    method: str
    path: str
    client: str
    route: str
    cluster: str
    endpoint: str
    model: str
    stream: bool
    status: int
    flag: str
    reason: str
    attempts: int
    started_at: float
    """Wall clock, Unix seconds."""
    duration: float
    queued: float
    first_byte: float | None
    ttft: float | None
    bytes_in: int
    bytes_out: int
    chunks: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    tenant: str | None
    trace_id: str | None
    """Of the W3C trace context."""
    protocol: str
    fields: dict[str, str] | None
    """Header values that the log's format asks for."""
    fallback: str | None
    """The clusters that the request went through, with why it left them; None for most."""
    hedges: int
    prompt_bytes: int | None
    prefix: tuple[int, ...] | None
    """The prompt's checkpoints (``router.core.prefix.blocks``), None unless they are to be logged.
    They leave the process for control alone, which makes other names of them."""
    shadow: bool
    """A copy that a mirror was sent; ``reason`` says what became of it."""

    def __init__(
        self,
        request_id: str,
        method: str,
        path: str,
        client: str,
        route: str,
        cluster: str,
        endpoint: str,
        model: str,
        stream: bool,
        status: int,
        flag: str,
        reason: str,
        attempts: int,
        started_at: float,
        duration: float,
        queued: float,
        first_byte: float | None,
        ttft: float | None,
        bytes_in: int,
        bytes_out: int,
        chunks: int,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        cached_tokens: int | None = None,
        tenant: str | None = None,
        trace_id: str | None = None,
        protocol: str = "HTTP/1.1",
        fields: dict[str, str] | None = None,
        fallback: str | None = None,
        hedges: int = 0,
        prompt_bytes: int | None = None,
        prefix: tuple[int, ...] | None = None,
        shadow: bool = False,
    ) -> None:
        self.request_id = request_id
        self.method = method
        self.path = path
        self.client = client
        self.route = route
        self.cluster = cluster
        self.endpoint = endpoint
        self.model = model
        self.stream = stream
        self.status = status
        self.flag = flag
        self.reason = reason
        self.attempts = attempts
        self.started_at = started_at
        self.duration = duration
        self.queued = queued
        self.first_byte = first_byte
        self.ttft = ttft
        self.bytes_in = bytes_in
        self.bytes_out = bytes_out
        self.chunks = chunks
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cached_tokens = cached_tokens
        self.tenant = tenant
        self.trace_id = trace_id
        self.protocol = protocol
        self.fields = fields
        self.fallback = fallback
        self.hedges = hedges
        self.prompt_bytes = prompt_bytes
        self.prefix = prefix
        self.shadow = shadow
