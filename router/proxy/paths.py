"""The paths of OpenAI-compatible servers: their methods, and where a request names its model.

A path that is not here is not refused: a route may take it, and a JSON body is looked at for a
model if it happens to be one.
"""

import enum
from typing import Final

from router.core import errors


class Body(enum.IntEnum):
    """What a request's body is."""

    ANY = 0  # whatever; peeked at leniently
    JSON = 1
    FORM = 2  # multipart/form-data, as uploads of audio and images are; JSON is accepted too
    MODELS = 3  # no body: answered by the router
    HEALTH = 4


_POST: Final = ("POST",)
_GET: Final = ("GET", "HEAD")
_JSON_PATHS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/v1/score",
    "/score",
    "/pooling",
    "/classify",
    "/tokenize",
    "/detokenize",
    "/v1/audio/speech",
    "/v1/images/generations",
)
_FORM_PATHS: Final = (
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/variations",
)
_PATHS: Final[dict[str, tuple[tuple[str, ...], Body]]] = {
    **dict.fromkeys(_JSON_PATHS, (_POST, Body.JSON)),
    **dict.fromkeys(_FORM_PATHS, (_POST, Body.FORM)),
    "/v1/models": (_GET, Body.MODELS),
    "/health": (_GET, Body.HEALTH),
}
_ONE_MODEL: Final = (_GET, Body.MODELS)
_UNKNOWN: Final = ((), Body.ANY)


def look_up(path: str, method: bytes) -> Body:
    """What to expect of a request.

    Raises:
        MethodNotAllowed: if the path is known and does not take the method.
    """
    known = _PATHS.get(path)
    if known is None:
        known = _ONE_MODEL if path.startswith("/v1/models/") else _UNKNOWN
    methods, body = known
    name = method.decode("ascii")
    if methods and name not in methods:
        raise errors.MethodNotAllowed(f"{path} does not take {name}", allow=methods)
    return body
