"""Who a waiting request belongs to, and how much work it is estimated to be."""

from router.core.admission.breaker import QueuePolicy
from router.core.model import LlmRequest

ANSWER_TOKENS = 256
"""Assumed of a request that sets no limit on its answer."""
MAX_COST = 262_144.0
"""Tokens; a limit that no answer reaches must not count as work."""


def tenant(policy: QueuePolicy, request: LlmRequest) -> str:
    """The key that shares are counted by; the empty one for requests that have none."""
    for source in policy.fair_by:
        value: str | None
        match source:
            case "tenant":
                value = request.tenant
            case "user":
                value = request.user
            case "address":
                value = request.client
            case "model":
                value = request.model
            case _:
                raw = request.header(source.removeprefix("header:").lower().encode())
                value = None if raw is None else raw.decode("latin-1")
        if value:
            return value
    return ""


def cost(policy: QueuePolicy, request: LlmRequest) -> float:
    """Estimated tokens of prompt and answer, or 1 where requests count alike."""
    if not policy.by_tokens:
        return 1.0
    answer = ANSWER_TOKENS if request.max_tokens is None else request.max_tokens
    return min(MAX_COST, float(request.prompt_tokens + max(1, answer)))
