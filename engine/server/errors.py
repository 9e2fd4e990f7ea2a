"""Every error a client can see, as OpenAI words it: message, type, the field at fault, a code."""

from __future__ import annotations

from typing import Any

import msgspec


class ApiError(Exception):
    """An error with its HTTP status. `param` is the request field, `code` a stable word."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        # A header may hold bytes that are no text; they must not spoil the error that quotes them.
        message = message.encode(errors="replace").decode()
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind or _kind(status)
        self.headers = headers or {}

    def body(self) -> bytes:
        """The JSON body."""
        return msgspec.json.encode(self.payload())

    def payload(self) -> dict[str, Any]:
        """The body before encoding."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    if status == 503:
        return "service_unavailable_error"
    return "invalid_request_error" if status < 500 else "server_error"


def bad_field(param: str, message: str, *, code: str = "invalid_value") -> ApiError:
    """400 naming the field."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, message: str) -> ApiError:
    """400 for a feature that exists elsewhere and not here."""
    return ApiError(400, message, param=param, code="unsupported_parameter")


def too_long(prompt_tokens: int, max_tokens: int, limit: int, *, param: str) -> ApiError:
    """400 for a request that cannot fit the context."""
    wanted = f" and {max_tokens} of output were asked for" if max_tokens else ""
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens; the prompt has {prompt_tokens} "
        f"tokens{wanted}. Shorten the prompt or ask for fewer tokens.",
        param=param,
        code="context_length_exceeded",
    )


def text_too_long(characters: int, limit: int, *, param: str) -> ApiError:
    """400 for a text that cannot fit the context, whatever tokens it is made of."""
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens, which {characters} characters of "
        "text cannot fit. Shorten the prompt.",
        param=param,
        code="context_length_exceeded",
    )


def unknown_model(name: str) -> ApiError:
    """404 for a model that is not served here."""
    return ApiError(
        404,
        f"The model `{name}` does not exist. GET /v1/models lists the served ones.",
        param="model",
        code="model_not_found",
    )
