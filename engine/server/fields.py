"""Typed reading of JSON bodies: every wrong field is a 400 that names it and its limit.

`Body` wraps one decoded object. A getter returns the default for a missing or null field, checks
type and range, and complains in OpenAI's form. Booleans are not numbers, floats with no fraction
are integers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.server.errors import ApiError, bad_field

MAX_STOP_STRINGS = 64
MAX_STOP_LENGTH = 1024
# Longer than any token id there is, and short enough to be read as a number and shown.
MAX_ID_DIGITS = 12

_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """What a JSON value is, with its article."""
    return _NAMES.get(type(value), "a value")


def decode_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. Raises `ApiError` 400."""
    try:
        decoded = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"The body is not valid JSON: {reason}", code="invalid_json") from error
    if not isinstance(decoded, dict):
        raise ApiError(
            400, f"The body must be a JSON object, not {kind_of(decoded)}.", code="invalid_json"
        )
    return decoded


class Body:
    """One request body."""

    __slots__ = ("raw",)

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def __contains__(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def get(self, name: str) -> Any:
        """The raw value; None when missing or null."""
        return self.raw.get(name)

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong_type(name, "a boolean", value)
        return value

    def integer(
        self,
        name: str,
        default: int | None = None,
        *,
        low: int | None = None,
        high: int | None = None,
    ) -> int | None:
        value = self.raw.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(name, "an integer", value)
        _check_range(name, value, low, high)
        return value

    def number(
        self, name: str, default: float, *, low: float | None = None, high: float | None = None
    ) -> float:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(name, "a number", value)
        _check_range(name, value, low, high)
        return _as_float(name, value)

    def string(self, name: str, default: str | None = None) -> str | None:
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        value = self.raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise wrong_type(name, "an object", value)
        return value

    def token_ids(self, name: str, *, most: int) -> tuple[int, ...]:
        """A list of at most `most` token ids."""
        value = self.raw.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise wrong_type(name, "an array of token ids", value)
        if len(value) > most:
            raise bad_field(name, f"`{name}` has {len(value)} entries, the limit is {most}.")
        for at, item in enumerate(value):
            if type(item) is not int:
                raise wrong_type(f"{name}[{at}]", "an integer", item)
        return tuple(value)

    def stop(self) -> tuple[str, ...]:
        """`stop`: one string or a list of them."""
        value = self.raw.get("stop")
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            raise wrong_type("stop", "a string or an array of strings", value)
        if len(items) > MAX_STOP_STRINGS:
            raise bad_field(
                "stop", f"`stop` has {len(items)} strings, the limit is {MAX_STOP_STRINGS}."
            )
        for at, item in enumerate(items):
            if not isinstance(item, str):
                raise wrong_type(f"stop[{at}]", "a string", item)
            if not 1 <= len(item) <= MAX_STOP_LENGTH:
                raise bad_field(
                    f"stop[{at}]",
                    f"`stop[{at}]` must have 1 to {MAX_STOP_LENGTH} characters, "
                    f"it has {len(item)}.",
                )
        return tuple(items)

    def logit_bias(self) -> dict[int, float] | None:
        """`logit_bias`: token id (as a JSON key) to bias."""
        entries = self.mapping("logit_bias")
        bias: dict[int, float] = {}
        for key, value in entries.items():
            if not key.isascii() or not key.isdigit() or len(key) > MAX_ID_DIGITS:
                raise bad_field(
                    "logit_bias", f"`logit_bias` has the key {key[:40]!r}, not a token id."
                )
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise wrong_type(f"logit_bias.{key}", "a number", value)
            bias[int(key)] = _as_float(f"logit_bias.{key}", value)
        return bias or None


def wrong_type(name: str, wanted: str, value: Any) -> ApiError:
    """400 for a value of another JSON type."""
    return ApiError(
        400, f"`{name}` must be {wanted}, not {kind_of(value)}.", param=name, code="invalid_type"
    )


def _as_float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        # JSON has no limit for whole numbers, and Python keeps to that.
        raise bad_field(name, f"`{name}` is beyond the largest number, 1.8e308.") from None


def _check_range(name: str, value: float, low: float | None, high: float | None) -> None:
    if low is not None and value < low:
        raise bad_field(name, f"`{name}` must be at least {low}, got {value}.")
    if high is not None and value > high:
        raise bad_field(name, f"`{name}` must be at most {high}, got {value}.")
