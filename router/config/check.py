"""Plain data against the schema: everything that is wrong, not only the first thing.

Walks types and data together. Short forms are made long on the way (``"host:port"`` becomes
``{address: "host:port"}``), so that what comes out converts to ``Config`` as it is.
"""

import functools
import re
import types
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from router.config.document import Document, resolve
from router.config.findings import Path, Problem, closest
from router.config.section import Section
from router.config.units import QUANTITIES, Amount, Secret

T = TypeVar("T", bound=Section)

MAX_SECRET = 8192
MAX_PROBLEMS = 100
"""Nobody reads more; the rest usually follows from the first ones."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


@functools.cache
def hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The fields' types by name, with their annotations."""
    wanted = {field.name for field in msgspec.structs.fields(struct)}
    return {
        name: hint
        for name, hint in get_type_hints(struct, include_extras=True).items()
        if name in wanted
    }


def unwrap(kind: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """A type without its annotations, and these."""
    if get_origin(kind) is Annotated:
        base, *extra = get_args(kind)
        inner, metas = unwrap(base)
        return inner, (*metas, *(meta for meta in extra if isinstance(meta, msgspec.Meta)))
    return kind, ()


def arms(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def tag_of(struct: Any) -> str | None:
    """The value of a tagged union's member's tag field, None for a plain struct."""
    tag = struct.__struct_config__.tag
    return tag if isinstance(tag, str) else None


def takes_single(metas: Sequence[msgspec.Meta]) -> bool:
    return any(meta.extra and meta.extra.get("single") for meta in metas)


def takes_commas(metas: Sequence[msgspec.Meta]) -> bool:
    return any(meta.extra and meta.extra.get("commas") for meta in metas)


def convert(document: Document, kind: type[T]) -> tuple[T | None, list[Problem]]:
    """The document as this type of section, or what is wrong with it."""
    walk = _Walk(document.expanded)
    data = walk.take(kind, document.data, ())
    if walk.problems:
        return None, walk.problems[:MAX_PROBLEMS]
    try:
        return msgspec.convert(data, kind, dec_hook=_parsed), []
    except msgspec.ValidationError as error:  # a section's own rule about its fields together
        return None, [_own_rule(str(error))]


def _own_rule(message: str) -> Problem:
    text, _, where = message.partition(" - at `$")
    parts = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", where)
    return Problem(tuple(name or int(index) for name, index in parts), text)


def _parsed(kind: type, value: Any) -> Any:
    return value


class _Walk:
    def __init__(self, expanded: frozenset[Path]) -> None:
        self.expanded = expanded
        self.problems: list[Problem] = []

    def fault(
        self, path: Path, message: str, suggestion: str | None = None, *, at_key: bool = False
    ) -> None:
        self.problems.append(Problem(path, message, suggestion, at_key))

    def take(self, kind: Any, value: Any, path: Path) -> Any:
        base, metas = unwrap(kind)
        members = [unwrap(member)[0] for member in arms(base)]
        structs = [member for member in members if is_struct(member)]
        if structs:
            if type(None) in members and value in (None, False, "off"):
                return None
            return self._struct_of(structs, value, path)
        quantity = next((member for member in members if member in QUANTITIES), None)
        if quantity is not None and not (value is None and type(None) in members):
            return self._quantity(quantity, value, path)
        origin = get_origin(base)
        if origin is tuple:
            return self._list(get_args(base)[0], metas, value, path)
        if origin is dict:
            return self._mapping(get_args(base)[1], get_args(base)[0], value, path)
        return self._leaf(kind, members, value, path)

    def _struct_of(self, structs: list[Any], value: Any, path: Path) -> Any:
        struct = structs[0]
        shorthand = getattr(struct, "shorthand", None)
        if shorthand is not None and isinstance(value, str | int | float):
            value = {shorthand: value}
            if path in self.expanded:
                self.expanded |= {(*path, shorthand)}
        if not isinstance(value, dict):
            self.fault(path, f"expected a mapping of fields, got {_describe(value)}")
            return None
        if tag_of(struct) is not None:
            return self._tagged(structs, value, path)
        return self._struct(struct, value, path)

    def _tagged(self, structs: list[Any], value: dict[str, Any], path: Path) -> Any:
        field = structs[0].__struct_config__.tag_field
        by_tag = {tag_of(struct): struct for struct in structs}
        known = [str(tag) for tag in by_tag]
        if field not in value:
            self.fault(path, f"missing field {field!r}: one of {', '.join(known)}")
            return None
        tag = value[field]
        struct = by_tag.get(tag) if isinstance(tag, str) else None
        if struct is None:
            self.fault(
                (*path, field),
                f"expected one of {', '.join(known)}, got {tag!r}",
                closest(str(tag), known),
            )
            return None
        rest = {name: item for name, item in value.items() if name != field}
        taken: dict[str, Any] = self._struct(struct, rest, path)
        return {field: tag, **taken}

    def _struct(self, struct: Any, value: dict[str, Any], path: Path) -> dict[str, Any]:
        known = hints(struct)
        taken: dict[str, Any] = {}
        for name, item in value.items():
            if name in known:
                taken[name] = self.take(known[name], item, (*path, name))
            elif issubclass(struct, Section) and name in struct.planned:
                why = struct.planned[name]
                self.fault(
                    (*path, name),
                    f"field {name!r} is not supported by this version: {why}",
                    at_key=True,
                )
            else:
                self.fault(
                    (*path, name),
                    f"unknown field {name!r}",
                    closest(name, [other for other in known if other not in value]),
                    at_key=True,
                )
        for field in msgspec.structs.fields(struct):
            if field.required and field.name not in value:
                self.fault(path, f"missing field {field.name!r}")
        return taken

    def _list(self, item: Any, metas: tuple[msgspec.Meta, ...], value: Any, path: Path) -> Any:
        if takes_single(metas) and not isinstance(value, list) and value is not None:
            value = _parts(value) if takes_commas(metas) else [value]
            if path in self.expanded:
                self.expanded |= {(*path, index) for index in range(len(value))}
        if not isinstance(value, list):
            self.fault(path, f"expected a list, got {_describe(value)}")
            return None
        for meta in metas:
            if meta.min_length is not None and len(value) < meta.min_length:
                self.fault(path, f"at least {meta.min_length} is needed here")
            if meta.max_length is not None and len(value) > meta.max_length:
                self.fault(path, f"at most {meta.max_length} may stand here, got {len(value)}")
        return [self.take(item, one, (*path, index)) for index, one in enumerate(value)]

    def _mapping(self, item: Any, key: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            self.fault(path, f"expected a mapping, got {_describe(value)}")
            return None
        for name in value:
            self._leaf(key, [unwrap(key)[0]], name, (*path, name), at_key=True)
        return {name: self.take(item, one, (*path, name)) for name, one in value.items()}

    def _quantity(self, kind: Any, value: Any, path: Path) -> Any:
        if type(value) is int and (value == 0 or kind is Amount):
            value = str(value)
        if not isinstance(value, str):
            hint = f", with its unit: {kind.example}" if kind is not Secret else ""
            self.fault(path, f"expected a text{hint}, got {_describe(value)}")
            return None
        try:
            return kind.parse(self._secret(value, path) if kind is Secret else value)
        except ValueError as error:
            self.fault(path, str(error))
            return None

    def _secret(self, value: str, path: Path) -> str:
        if value.startswith("file:"):
            try:
                with FilePath(value[5:]).open("rb") as stream:
                    return stream.read(MAX_SECRET).decode("ascii").strip()
            except OSError as error:
                raise ValueError(f"cannot read {value[5:]}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ValueError(f"{value[5:]} is not ASCII") from None
        if path not in self.expanded:
            raise ValueError(f"a secret does not stand in the file itself; write {Secret.example}")
        return value

    def _leaf(
        self, kind: Any, members: list[Any], value: Any, path: Path, *, at_key: bool = False
    ) -> Any:
        if path in self.expanded and not _converts(value, kind):
            value = resolve(value)
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            words = [
                word for arm in members if get_origin(arm) is Literal for word in get_args(arm)
            ]
            numbers = any(arm is int for arm in members)
            if words and (type(value) is not int or not numbers):
                listed = ", ".join(map(str, words)) + (" or a number" if numbers else "")
                one_of = "expected" if len(words) == 1 and not numbers else "expected one of"
                likely = closest(str(value), list(map(str, words)))
                quoted = isinstance(value, str) and value in map(str, words)
                self.fault(
                    path,
                    f"{one_of} {listed}, got {value!r}" + (" in quotes" if quoted else ""),
                    None if quoted else likely,
                )
            else:
                self.fault(path, _reword(str(error), value), at_key=at_key)
        return value


def _parts(value: Any) -> list[Any]:
    """The items of a text with commas between them."""
    if not isinstance(value, str):
        return [value]
    return [resolve(part.strip()) for part in value.split(",")]


def _converts(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool | int | float):
        return f"{str(value).lower()}"
    return f"the text {value!r}" if isinstance(value, str) else _KINDS[_json_kind(value)]


def _json_kind(value: Any) -> str:
    return "object" if isinstance(value, dict) else "array"


def _reword(message: str, value: Any) -> str:
    """msgspec's sentence in the words of a YAML file."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{19,}", value):
        return f"{value[:40]} is out of any range"
    text = message[0].lower() + message[1:]
    for kind, words in _KINDS.items():
        text = text.replace(f"`{kind}`", words)
    text = text.replace(" | ", " or ").split(" - at `")[0]
    if "expected a text, got" in text and isinstance(value, int | float):
        return f"expected a text, got {_describe(value)}; put it in quotes"
    return text if ", got " in text else f"{text}, got {_describe(value)}"
