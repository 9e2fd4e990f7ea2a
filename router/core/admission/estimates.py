"""How many tokens a request will come to, guessed before an engine has counted them.

A prompt's tokens are the bytes of the request's body divided by what a token takes; an answer's
are the request's own limit (``max_tokens``), or what the model's answers came to of late. Both are
learned for each model from the ``usage`` of answers, as moving averages, and start from what is
configured. A guess decides only what is reserved: what is charged in the end is the usage.
"""

from dataclasses import dataclass
from typing import Final

from router.core.model import BYTES_PER_TOKEN, LlmRequest

WEIGHT: Final = 1 / 16
"""Of a new sample in the average: it follows a change within some dozen requests."""
MODELS: Final = 1024
"""Models that are remembered; beyond it the one longest unheard of is forgotten."""
NO_ANSWER: Final = (
    "/embeddings",
    "/rerank",
    "/score",
    "/tokenize",
    "/detokenize",
    "/classify",
    "/pooling",
)
"""Ends of paths whose answers are not generated."""
GENERATING: Final = frozenset(
    ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
)
"""Paths of nearly all requests, whose ends need no look."""
_TOKEN_BYTES: Final = (0.5, 64.0)
"""Bytes of body for a prompt's token that are believed; an image's body says nothing of text."""


@dataclass(frozen=True, kw_only=True)
class TokenEstimates:
    """Where guesses begin, and their bounds.

    Attributes:
        bytes_per_token: of a request's body, for each token of the prompt.
        output: tokens of an answer whose request does not limit them.
        context: tokens that a prompt is never guessed to exceed, however large the body.
        learn: whether answers' usage corrects the first two.
    """

    bytes_per_token: float = BYTES_PER_TOKEN
    output: float = 256.0
    context: float = 131072.0
    learn: bool = True


class Consumption:
    """What is known of a response: ``prompt`` and ``completion`` tokens as the engine counted
    them, if it did, and how many ``chunks`` and ``body_bytes`` went to the client."""

    __slots__ = ("body_bytes", "chunks", "completion", "prompt")

    def __init__(
        self,
        prompt: int | None = None,
        completion: int | None = None,
        chunks: int = 0,
        body_bytes: int = 0,
    ) -> None:
        self.prompt: Final = prompt
        self.completion: Final = completion
        self.chunks: Final = chunks
        self.body_bytes: Final = body_bytes

    def __repr__(self) -> str:
        return f"<Consumption {self.prompt} + {self.completion}, {self.chunks} chunks>"


class _Model:
    __slots__ = ("answer_bytes", "output", "prompt_bytes", "stream_bytes")

    def __init__(self, start: TokenEstimates) -> None:
        self.prompt_bytes = start.bytes_per_token
        self.output = start.output
        self.answer_bytes = start.bytes_per_token
        self.stream_bytes = 0.0  # not known: a chunk counts as a token


def _generates(path: str) -> bool:
    return path in GENERATING or not path.endswith(NO_ANSWER)


class Estimator:
    """Guesses, and learns from what came of them. One for a process."""

    __slots__ = ("_models", "settings")

    def __init__(self, settings: TokenEstimates | None = None) -> None:
        self.settings = settings if settings is not None else TokenEstimates()
        self._models: dict[str, _Model] = {}

    def expected(self, request: LlmRequest) -> tuple[float, float]:
        """Tokens of the prompt and of the answer."""
        settings = self.settings
        model = self._models.get(request.model or "")
        size = settings.bytes_per_token if model is None else model.prompt_bytes
        prompt = min(settings.context, request.body_bytes / size)
        if not _generates(request.path):
            return prompt, 0.0
        if request.max_tokens is not None:
            return prompt, float(max(0, request.max_tokens))
        return prompt, settings.output if model is None else model.output

    def answered(self, request: LlmRequest, seen: Consumption) -> float:
        """Tokens of an answer, or of the part that came: as counted, or guessed from its size.

        Of a stream a chunk is a token, or more where reads were joined on the way.
        """
        if seen.completion is not None:
            return float(seen.completion)
        if not seen.body_bytes or not _generates(request.path):
            return 0.0
        model = self._models.get(request.model or "")
        if request.stream:
            size = 0.0 if model is None else model.stream_bytes
            return max(float(seen.chunks), seen.body_bytes / size if size else 0.0)
        size = self.settings.bytes_per_token if model is None else model.answer_bytes
        return seen.body_bytes / size

    def learn(self, request: LlmRequest, seen: Consumption) -> None:
        """Take the usage of a whole answer into the averages."""
        if not self.settings.learn or not seen.prompt:
            return
        name = request.model or ""
        model = self._models.pop(name, None) or _Model(self.settings)
        self._models[name] = model
        if len(self._models) > MODELS:
            del self._models[next(iter(self._models))]
        low, high = _TOKEN_BYTES
        if low <= (size := request.body_bytes / seen.prompt) <= high:
            model.prompt_bytes += (size - model.prompt_bytes) * WEIGHT
        if not seen.completion:
            return
        model.output += (seen.completion - model.output) * WEIGHT
        size = seen.body_bytes / seen.completion
        if not request.stream:
            model.answer_bytes += (size - model.answer_bytes) * WEIGHT
        elif model.stream_bytes:
            model.stream_bytes += (size - model.stream_bytes) * WEIGHT
        else:
            model.stream_bytes = size

    def __repr__(self) -> str:
        return f"<Estimator models={len(self._models)}>"
