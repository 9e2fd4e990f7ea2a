"""What a router is told of a recorded request, whose text nobody has.

A prompt is taken to have four bytes a token, so that the router's blocks of 512 bytes are 128
tokens. A checkpoint inside a block of the trace is named after that block and the place in it:
prompts that part within a block of the trace are told apart at its first byte. Engines here find
whole blocks of the trace only, so router and engine agree. What comes after the last full block
is nobody else's.
"""

from struct import pack

from xxhash import xxh3_64_intdigest

from router.core.model import BYTES_PER_TOKEN, LlmRequest
from router.core.prefix.blocks import BLOCK, DEPTHS
from router.sim.workload import Arrival

PATH = "/v1/chat/completions"

_DEPTHS = tuple(depth * BLOCK // BYTES_PER_TOKEN for depth in DEPTHS)
"""In tokens."""


def described(arrival: Arrival, block: int, *, stream: bool) -> LlmRequest:
    """The request as a router would see it.

    Args:
        block: tokens in a block of the trace.
    """
    size = BYTES_PER_TOKEN * arrival.prompt
    return LlmRequest(
        id=str(arrival.key),
        method="POST",
        path=PATH,
        stream=stream,
        prefix_hash=xxh3_64_intdigest(pack("<q", arrival.conversation)),
        body_bytes=size,
        prompt_bytes=size,
        checkpoints=_checkpoints(arrival, block),
    )


def _checkpoints(arrival: Arrival, block: int) -> tuple[int, ...]:
    found = []
    blocks = arrival.blocks
    for depth in _DEPTHS:
        if depth > arrival.prompt:
            break
        index, place = divmod(depth - 1, block)
        owner = blocks[index] if index < len(blocks) else -arrival.key
        found.append(xxh3_64_intdigest(pack("<qq", owner, index * block + place)))
    return tuple(found)
