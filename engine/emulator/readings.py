"""Requests that only read: embeddings, rerank, score, transcription.

The answers are worthless as meaning but well-formed and reproducible: vectors come from a hash of
the text, relevance is the share of the query's words found in the document.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from engine.emulator.config import EmulatorConfig
from engine.emulator.inputs import ApiError, integer, model_of, read_object, require, texts_of
from engine.emulator.text import token_count

encode = msgspec.json.encode


class Reading(NamedTuple):
    """Tokens to be read, and what to answer then (body and content type)."""

    prompt: bytes
    prompt_tokens: int
    render: Callable[[], tuple[bytes, bytes]]


JSON = b"application/json"


def vector(text: bytes, size: int) -> list[float]:
    """A unit vector of `size` floats that depends on nothing but the text."""
    raw = [xxh3_64_intdigest(text, seed=axis) / 2**63 - 1 for axis in range(size)]
    norm = math.sqrt(sum(x * x for x in raw)) or 1.0
    return [x / norm for x in raw]


def relevance(query: bytes, document: bytes) -> float:
    """Share of the query's words that the document contains, 0 to 1."""
    wanted = set(query.lower().split())
    return len(wanted & set(document.lower().split())) / max(1, len(wanted))


class ReadingReader:
    """Turns the bodies of reading requests into `Reading`s."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self._numbers = count(1)
        self.readers: dict[str, Callable[[bytes, bytes], Reading]] = {
            "/v1/embeddings": self.embeddings,
            "/rerank": self.rerank,
            "/v1/rerank": self.rerank,
            "/v2/rerank": self.rerank,
            "/score": self.score,
            "/v1/score": self.score,
            "/v1/audio/transcriptions": self.transcription,
        }

    def embeddings(self, body: bytes, content_type: bytes) -> Reading:
        """OpenAI embeddings, floats or base64 of little-endian float32."""
        document = read_object(body)
        texts = texts_of(require(document, "input"), "input")
        form = document.get("encoding_format", "float")
        if form not in ("float", "base64"):
            raise ApiError(400, "encoding_format must be float or base64", param="encoding_format")
        size = self._config.embedding_size

        def item(index: int, text: bytes) -> dict[str, Any]:
            values = vector(text, size)
            packed = base64.b64encode(struct.pack(f"<{size}f", *values)).decode()
            embedding = packed if form == "base64" else values
            return {"object": "embedding", "index": index, "embedding": embedding}

        data = [item(i, t) for i, t in enumerate(texts)]
        return self._reading(document, texts, "embd", {"object": "list", "data": data})

    def rerank(self, body: bytes, content_type: bytes) -> Reading:
        """Documents by relevance to a query, best first."""
        document = read_object(body)
        query = texts_of(require(document, "query"), "query")[0]
        given = require(document, "documents")
        if not isinstance(given, list):
            raise ApiError(400, "documents must be a list", param="documents")
        documents = texts_of(given, "documents")
        ranked = sorted(
            ((relevance(query, text), i) for i, text in enumerate(documents)),
            key=lambda pair: (-pair[0], pair[1]),
        )
        # As in vLLM, 0 asks for all of them.
        top = integer(document, "top_n", 0, 1 << 31) or len(ranked)
        results = [
            {"index": i, "document": {"text": given[i]}, "relevance_score": score}
            for score, i in ranked[:top]
        ]
        return self._reading(document, [query, *documents], "rerank", {"results": results})

    def score(self, body: bytes, content_type: bytes) -> Reading:
        """One score per pair; a single text on the left is paired with every one on the right."""
        document = read_object(body)
        left = texts_of(require(document, "text_1"), "text_1")
        right = texts_of(require(document, "text_2"), "text_2")
        if len(left) == 1:
            left = left * len(right)
        if len(left) != len(right):
            raise ApiError(400, "text_1 must be one text or as many as text_2", param="text_1")
        data = [
            {"index": i, "object": "score", "score": relevance(a, b)}
            for i, (a, b) in enumerate(zip(left, right, strict=True))
        ]
        return self._reading(document, [*left, *right], "score", {"object": "list", "data": data})

    def transcription(self, body: bytes, content_type: bytes) -> Reading:
        """OpenAI audio transcriptions: says how many bytes of audio it was given."""
        form = read_form(body, content_type)
        if "file" not in form:
            raise ApiError(400, "file is required", param="file")
        model_of(
            {
                name: value.decode("utf-8", "replace")
                for name, value in form.items()
                if name == "model"
            },
            self._config,
        )
        form_name = form.get("response_format", b"json")
        if form_name not in (b"json", b"text"):
            raise ApiError(400, "response_format must be json or text", param="response_format")
        if form.get("stream", b"false") != b"false":
            raise ApiError(400, "stream is not emulated for transcriptions", param="stream")
        text = f"A recording of {len(form['file'])} bytes."

        def render() -> tuple[bytes, bytes]:
            if form_name == b"text":
                return text.encode(), b"text/plain; charset=utf-8"
            return encode({"text": text}), JSON

        return Reading(form["file"], token_count(form["file"]), render)

    def _reading(
        self, request: dict[str, Any], texts: list[bytes], kind: str, answer: dict[str, Any]
    ) -> Reading:
        model = model_of(request, self._config)
        tokens = sum(token_count(t) for t in texts)
        longest = max(token_count(t) for t in texts)
        if longest >= self._config.context_length:
            raise ApiError(
                400,
                f"This model's maximum context length is {self._config.context_length} tokens, "
                f"but an input has {longest}.",
                param="input",
                code="context_length_exceeded",
            )
        usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
        name = {"id": f"{kind}-{next(self._numbers):032x}", "model": model}
        body = encode({**name, **answer, "usage": usage})
        # One sequence stands for the batch, so it must not need more than the model can hold.
        return Reading(
            b"\n".join(texts),
            min(tokens, self._config.context_length - 1),
            lambda: (body, JSON),
        )


def read_form(body: bytes, content_type: bytes) -> dict[str, bytes]:
    """The fields of a multipart/form-data body by name."""
    kind, _, parameters = content_type.partition(b";")
    boundary = b""
    for parameter in parameters.split(b";"):
        name, _, value = parameter.strip().partition(b"=")
        if name.lower() == b"boundary":
            boundary = value.strip(b'"')
    if kind.strip().lower() != b"multipart/form-data" or not boundary:
        raise ApiError(400, "expected multipart/form-data with a boundary")
    fields: dict[str, bytes] = {}
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, separator, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        marker = head.find(b'name="')
        if not separator or marker < 0:
            raise ApiError(400, "malformed multipart part")
        name = head[marker + 6 :].partition(b'"')[0]
        fields[name.decode("utf-8", "replace")] = value
    return fields
