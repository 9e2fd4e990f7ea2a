"""The schema as JSON Schema (2020-12), for editors and for other tools' checks.

Written out from the same types that ``check`` walks, short forms included, so that what an
editor accepts is what ``validate`` accepts, as far as JSON Schema can say it.
"""

import json
import re
from typing import Any, get_args, get_origin

import msgspec

from router.config.check import arms, hints, is_struct, tag_of, takes_commas, takes_single, unwrap
from router.config.schema import Config, redacted_value
from router.config.units import QUANTITIES, Amount

VARIABLE = r"\$\{.+\}"


def json_schema(root: Any = Config) -> dict[str, Any]:
    """The JSON Schema of a section and all below it."""
    writer = _Writer()
    top = writer.kind(root)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Warmpath",
        **top,
        "$defs": dict(sorted(writer.definitions.items())),
    }


def render() -> str:
    """The text of ``policies/schema.json``."""
    return json.dumps(json_schema(), indent=2) + "\n"


def section_name(struct: Any) -> str:
    """What a section is called in the schema and the reference."""
    tag = tag_of(struct)
    return tag if tag is not None else struct.__name__.removesuffix("Spec")


def summary(struct: Any) -> str:
    """The first paragraph of a section's documentation, on one line."""
    return " ".join((struct.__doc__ or "").split("\n\n")[0].split())


def field_description(struct: Any, name: str) -> str:
    """A field's description: its annotation's, or the sentences after ````name``:`` in the
    documentation of a balancer's ``Spec``, which knows nothing of annotations."""
    described = [meta.description for meta in unwrap(hints(struct)[name])[1] if meta.description]
    if described:
        return str(described[-1])
    text = " ".join((struct.__doc__ or "").split())
    found = re.search(rf"``{name}``: (.+?)(?= ``\w+``: |$)", text)
    if found:
        return found[1].replace("``", "")
    sections = [arm for arm in arms(unwrap(hints(struct)[name])[0]) if is_struct(arm)]
    return summary(sections[0]) if sections else ""


class _Writer:
    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def kind(self, kind: Any) -> dict[str, Any]:
        """The schema of any type of the configuration."""
        base, metas = unwrap(kind)
        members = [unwrap(member)[0] for member in arms(base)]
        optional = [{"type": "null"}] if type(None) in members else []
        structs = [member for member in members if is_struct(member)]
        if structs:
            choices = [self._reference(struct) for struct in structs]
            shorthand = getattr(structs[0], "shorthand", None)
            if shorthand is not None:
                choices.insert(0, self.kind(hints(structs[0])[shorthand]))
            if optional:
                choices += [{"const": "off"}, {"const": False}, *optional]
            return choices[0] if len(choices) == 1 else {"anyOf": choices}
        quantity = next((member for member in members if member in QUANTITIES), None)
        if quantity is not None:
            text = {"type": "string", "pattern": f"{quantity.pattern}|{VARIABLE}"}
            zero: list[dict[str, Any]] = [{"const": 0}] if re.match(quantity.pattern, "0") else []
            if quantity is Amount:
                zero = [{"type": "integer", "minimum": 1}]
            choices = [text, *zero, *optional]
            return text if len(choices) == 1 else {"anyOf": choices}
        if get_origin(base) is tuple:
            return self._list(get_args(base)[0], metas)
        if get_origin(base) is dict:
            return {"type": "object", "additionalProperties": self.kind(get_args(base)[1])}
        leaf = msgspec.json.schema(kind)
        leaf.pop("description", None)
        return leaf

    def _list(self, item: Any, metas: tuple[msgspec.Meta, ...]) -> dict[str, Any]:
        one = self.kind(item)
        several: dict[str, Any] = {"type": "array", "items": one}
        for meta in metas:
            if meta.min_length is not None:
                several["minItems"] = meta.min_length
            if meta.max_length is not None:
                several["maxItems"] = meta.max_length
        listed = [{"type": "string", "pattern": ","}] if takes_commas(metas) else []
        return {"anyOf": [one, several, *listed]} if takes_single(metas) else several

    def _reference(self, struct: Any) -> dict[str, Any]:
        name = section_name(struct)
        if name not in self.definitions:
            self.definitions[name] = {}  # its place is taken, should it be met again below
            self.definitions[name] = self._section(struct)
        return {"$ref": f"#/$defs/{name}"}

    def _section(self, struct: Any) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required = []
        if (tag := tag_of(struct)) is not None:
            tag_field = struct.__struct_config__.tag_field
            properties[tag_field] = {"const": tag}
            required.append(tag_field)
        for field in msgspec.structs.fields(struct):
            schema = self.kind(hints(struct)[field.name])
            if text := field_description(struct, field.name):
                schema = {"description": text, **schema}
            if field.required:
                required.append(field.name)
            elif field.default is not msgspec.NODEFAULT and not is_struct(type(field.default)):
                schema = {**schema, "default": redacted_value(field.default)}
            properties[field.name] = schema
        section: dict[str, Any] = {"type": "object", "description": summary(struct)}
        section["properties"] = properties
        if required:
            section["required"] = required
        return {**section, "additionalProperties": False}
