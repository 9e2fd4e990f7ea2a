"""What naming a prompt adds to the look at a body.

    python -m bench.prefix

Microseconds of CPU for one body, the best of many short runs: without names, with names, and the
difference; also as a multiple of what decoding a body of 8k tokens takes on the same machine, which
is what to compare between machines. A negative difference: where prompts are named, bodies up to
128 KiB are decoded, which is often cheaper than the look at their ends that others get.
"""

import gc
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from router.proxy.fields import decode_prompt
from router.proxy.headers import parse_request
from router.proxy.paths import Body
from router.proxy.peek import peek

HEAD = parse_request(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n", 100)
SIZES = {"150 tokens": 600, "500 tokens": 2000, "2k": 8000, "8k": 32_000, "32k": 128_000}
SIZES |= {"128k": 512_000}
WORDS = ("the", "router", "sends", "a", "conversation", "to", "who", "has", "read", "it", "before")


def text(size: int, quotes: float, rng: random.Random) -> str:
    words = rng.choices(WORDS, k=size // 5)
    return " ".join(f'"{w}"' if rng.random() < quotes else w for w in words)[:size]


def body(size: int, kind: str, rng: random.Random) -> bytes:
    """A chat of so many bytes, its tools and system besides."""
    turns = max(1, min(40, size // 1500))
    quotes = 0.2 if kind == "code" else 0.01
    roles = ("user", "assistant")
    messages = [
        {"role": roles[n % 2], "content": text(size // turns, quotes, rng)} for n in range(turns)
    ]
    fields: dict[str, Any] = {"messages": messages, "model": "m", "stream": True}
    if kind == "agent":
        properties = {
            name: {"type": "string", "description": text(60, 0, rng)} for name in "abcdef"
        }
        schema = {"type": "object", "properties": properties, "required": ["a", "b"]}
        fields["system"] = text(8000, 0.01, rng)
        fields["tools"] = [
            {"name": f"tool_{n}", "description": text(300, 0, rng), "input_schema": schema}
            for n in range(16)
        ]
    return msgspec.json.encode(fields)


def microseconds(action: Callable[[], object], runs: int = 5, times: int = 200) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter_ns()
        for _ in range(runs):
            action()
        best = min(best, (time.perf_counter_ns() - start) / runs / 1000)
    return best


def main() -> None:
    gc.freeze()
    gc.disable()
    rng = random.Random(1)
    probe = body(SIZES["8k"], "prose", rng)
    unit = microseconds(lambda: decode_prompt(probe))
    print(f"decoding 8k tokens of prose: {unit:.1f} us")
    print(f"{'':18} {'bytes':>8} {'plain':>8} {'named':>8} {'added':>8} {'of that':>8}")
    for kind in ("prose", "code", "agent"):
        for name, size in SIZES.items():
            raw = body(size, kind, rng)
            plain = microseconds(lambda raw=raw: peek([raw], len(raw), Body.JSON, HEAD))
            named = microseconds(lambda raw=raw: peek([raw], len(raw), Body.JSON, HEAD, {}))
            added = named - plain
            print(
                f"{kind + ', ' + name:18} {len(raw):8} {plain:8.1f} {named:8.1f} {added:8.1f} "
                f"{added / unit:8.2f}"
            )


if __name__ == "__main__":
    main()
