"""What a look at a body has found. A plain class, as one is made for each request: see ADR 14."""

from typing import Final


class Peek:
    """The fields of a request that decisions are based on; None where the body has none.

    ``checkpoints`` and ``prompt_bytes`` are as ``router.proxy.prompt`` has it, empty
    unless asked for.
    """

    __slots__ = (
        "checkpoints",
        "max_tokens",
        "model",
        "prefix_hash",
        "prompt_bytes",
        "stream",
        "user",
    )

    def __init__(
        self,
        model: str | None = None,
        stream: bool = False,
        max_tokens: int | None = None,
        user: str | None = None,
        prefix_hash: int | None = None,
        checkpoints: tuple[int, ...] = (),
        prompt_bytes: int = 0,
    ) -> None:
        self.model: Final = model
        self.stream: Final = stream
        self.max_tokens: Final = max_tokens
        self.user: Final = user
        self.prefix_hash: Final = prefix_hash
        self.checkpoints: Final = checkpoints
        self.prompt_bytes: Final = prompt_bytes

    def with_prompt(self, checkpoints: tuple[int, ...], prompt_bytes: int) -> "Peek":
        """The same where the prompt has been named."""
        return Peek(
            self.model,
            self.stream,
            self.max_tokens,
            self.user,
            self.prefix_hash,
            checkpoints,
            prompt_bytes,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peek) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return (
            f"<Peek {self.model!r} stream={self.stream} max_tokens={self.max_tokens} "
            f"user={self.user!r} prefix_hash={self.prefix_hash} "
            f"prompt_bytes={self.prompt_bytes} checkpoints={self.checkpoints}>"
        )


NOTHING: Final = Peek()
