"""The paths of OpenAI-compatible servers: their methods, and where a request names its model.

A path that is not here is not refused: a route may take it, and a JSON body is looked at for a
model if it happens to be one.
"""

import enum

import msgspec

from router.core import errors


class Body(enum.IntEnum):
    """What a request's body is."""

    ANY = 0  # whatever; peeked at leniently
    JSON = 1
    FORM = 2  # multipart/form-data, as uploads of audio and images are; JSON is accepted too
    MODELS = 3  # no body: answered by the router
    HEALTH = 4


class Path(msgspec.Struct, frozen=True):
    methods: tuple[str, ...]
    body: Body


_POST = ("POST",)
_GET = ("GET", "HEAD")
_JSON_PATHS = (
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
_FORM_PATHS = (
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/variations",
)
_PATHS: dict[str, Path] = {
    **{path: Path(_POST, Body.JSON) for path in _JSON_PATHS},
    **{path: Path(_POST, Body.FORM) for path in _FORM_PATHS},
    "/v1/models": Path(_GET, Body.MODELS),
    "/health": Path(_GET, Body.HEALTH),
}
_ONE_MODEL = Path(_GET, Body.MODELS)
_UNKNOWN = Path((), Body.ANY)


def look_up(path: str, method: bytes) -> Body:
    """What to expect of a request.

    Raises:
        MethodNotAllowed: if the path is known and does not take the method.
    """
    known = _PATHS.get(path)
    if known is None:
        known = _ONE_MODEL if path.startswith("/v1/models/") else _UNKNOWN
    name = method.decode("ascii")
    if known.methods and name not in known.methods:
        raise errors.MethodNotAllowed(f"{path} does not take {name}", allow=known.methods)
    return known.body
