"""What a reload changes, in lines that a person reads in the log.

Works on the plain form of two configurations with secrets hidden. Items of a list that have a
name (or an address or cluster) are told apart by it, so that one inserted cluster is one line.
"""

from typing import Any

MAX_LINES = 200
_ABSENT = object()


def differences(before: Any, after: Any) -> list[str]:
    """``+ path``, ``- path`` and ``~ path: old -> new`` lines, in the new text's order."""
    lines: list[str] = []
    _compare("", before, after, lines)
    if len(lines) > MAX_LINES:
        rest = len(lines) - MAX_LINES
        lines[MAX_LINES:] = [f"... and {rest} more"]
    return lines


def _compare(path: str, before: Any, after: Any, lines: list[str]) -> None:
    if before == after:
        return
    if before is _ABSENT:
        lines.append(f"+ {path}")
        return
    if after is _ABSENT:
        lines.append(f"- {path}")
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        lines.append(f"~ {path}: {_short(before)} -> {_short(after)}")
        return
    for key in dict.fromkeys((*new, *old)):
        _compare(_join(path, key), old.get(key, _ABSENT), new.get(key, _ABSENT), lines)
    if list(old) != list(new) and set(old) == set(new) and not isinstance(after, dict):
        lines.append(f"~ {path}: order")


def _parts(value: Any) -> dict[str, Any] | None:
    """The value as named parts; None for a scalar or a list without names."""
    if isinstance(value, dict):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list | tuple):
        named: dict[str, Any] = {}
        for item in value:
            name = None
            if isinstance(item, dict):
                name = item.get("name") or item.get("address") or item.get("cluster")
            if not isinstance(name, str) or f"[{name}]" in named:
                return None
            named[f"[{name}]"] = item
        return named
    return None


def _join(path: str, key: str) -> str:
    if not path or key.startswith("["):
        return path + key
    return f"{path}.{key}"


def _short(value: Any, limit: int = 60) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
