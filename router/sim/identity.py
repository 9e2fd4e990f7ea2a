"""What a router is told of a recorded request, whose text nobody has.

A prompt is taken to have four bytes a token, so that the router's blocks of 512 bytes are 128
tokens, unless its trace knows better. A checkpoint inside a block of the trace is named after that
block and the place in it: prompts that part within a block of the trace are told apart at its first
byte. Engines here find whole blocks of the trace only, so router and engine agree. What comes after
the last full block is nobody else's.
"""

from functools import lru_cache
from struct import pack

from xxhash import xxh3_64_intdigest

from router.core.model import BYTES_PER_TOKEN, LlmRequest
from router.core.prefix.blocks import BLOCK, DEPTHS
from router.sim.workload import Arrival

PATH = "/v1/chat/completions"


def described(arrival: Arrival, block: int, *, stream: bool, block_bytes: int = 0) -> LlmRequest:
    """The request as a router would see it.

    Args:
        block: tokens in a block of the trace.
        block_bytes: bytes in one; 0: four to a token.
    """
    block_bytes = block_bytes or BYTES_PER_TOKEN * block
    size = arrival.prompt * block_bytes // block
    return LlmRequest(
        id=str(arrival.key),
        method="POST",
        path=PATH,
        stream=stream,
        prefix_hash=xxh3_64_intdigest(pack("<q", arrival.conversation)),
        body_bytes=size,
        prompt_bytes=size,
        checkpoints=_checkpoints(arrival, block, block_bytes),
        model=arrival.model,
        tenant=arrival.tenant,
    )


@lru_cache(maxsize=8)
def _depths(block: int, block_bytes: int) -> tuple[int, ...]:
    """Of checkpoints, in tokens, rounded up."""
    return tuple(-(-depth * BLOCK * block // block_bytes) for depth in DEPTHS)


def _checkpoints(arrival: Arrival, block: int, block_bytes: int) -> tuple[int, ...]:
    found = []
    blocks = arrival.blocks
    for depth in _depths(block, block_bytes):
        if depth > arrival.prompt:
            break
        index, place = divmod(depth - 1, block)
        owner = blocks[index] if index < len(blocks) else -arrival.key
        found.append(xxh3_64_intdigest(pack("<qq", owner, index * block + place)))
    return tuple(found)
