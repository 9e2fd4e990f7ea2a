"""What computing a prompt costs an engine, in seconds of an engine that nobody has measured yet.

Chunked prefill: every prompt token costs its matrix products, attention costs as many as the token
has before it, and a prompt takes part in about a step for each chunk, whose other half is the
decoding of everybody else. The figures are an H100's with a model of 8 billion parameters. Only
their proportions matter: what an endpoint's seconds are worth is learned (``Outlook.pace``), and
figures three times too high or half as high changed nothing in simulation. Without the quadratic
term the mean time to the first token was 12 to 19 % longer.
"""

from typing import Final

TOKEN: Final = 24e-6
"""Seconds for each token of a prompt that is computed."""

CHUNK: Final = 2048.0
"""Tokens of a prompt that one step computes."""

STEP: Final = 8.2e-3
"""Seconds of a step whatever it computes: the weights are read once."""

DECODE: Final = 20e-6
"""Seconds that each sequence in decode adds to a step."""

CONTEXT: Final = 50e-9
"""Seconds that each token of context of those sequences adds to a step."""


def prefill(uncached: float, prompt: float, quadratic: float) -> float:
    """Seconds of computing, but for the steps.

    Args:
        uncached: tokens to compute.
        prompt: tokens in all.
        quadratic: tokens of context at which attention costs as much as all else.
    """
    return TOKEN * uncached * (1.0 + (prompt - 0.5 * uncached) / quadratic)


def steps(uncached: float) -> float:
    """Steps that a prompt takes part in, about."""
    return uncached / CHUNK + 0.5
