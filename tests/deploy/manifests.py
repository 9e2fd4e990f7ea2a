"""Strict schemas for Kubernetes objects, offline.

Custom resources are held against their CRD's OpenAPI schema, core kinds against the models of the
Kubernetes client. An API server drops a field that it does not know; here such a field is an
error, as in ``kubectl apply --validate=strict``, because a misspelt field is a setting that
silently does nothing.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from kubernetes_asyncio.client import models as core_models

ROOT = Path(__file__).resolve().parent.parent.parent
CRDS = ROOT / "tests/data/crds"
Manifest = dict[str, Any]


def manifests(*paths: Path) -> Iterator[tuple[str, Manifest]]:
    """Every object in these files, named ``file kind/name``."""
    for path in paths:
        for document in yaml.safe_load_all(path.read_text()):
            if document is not None:
                label = f"{path.name} {document['kind']}/{document['metadata']['name']}"
                yield label, document


def closed(schema: Any) -> Any:
    """The schema with unknown fields forbidden wherever the CRD does not allow them."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("type", None)
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or (
        "additionalProperties" in schema
    )
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        result["additionalProperties"] = False
    return result


def custom_resource_problems(manifest: Manifest) -> list[str]:
    group, _, version = manifest["apiVersion"].partition("/")
    crd = json.loads((CRDS / f"{group}_{manifest['kind'].lower()}.json").read_text())
    schema = closed(crd["versions"][version])
    # The CRD leaves metadata to the API server.
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {}}
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def core_problems(manifest: Manifest) -> list[str]:
    """Problems of a built-in kind by the client's own model, for example ``V1Deployment``."""
    version = manifest["apiVersion"].rpartition("/")[2]
    name = version[0].upper() + version[1:] + manifest["kind"]
    return list(_typed(manifest, name, "$"))


SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
}


def _typed(value: Any, kind: str, where: str) -> Iterator[str]:
    listed = re.fullmatch(r"list\[(.+)\]", kind)
    mapped = re.fullmatch(r"dict[\[(]str, (.+)[\])]", kind)
    if listed:
        if not isinstance(value, list):
            yield f"{where}: must be a list"
            return
        for index, item in enumerate(value):
            yield from _typed(item, listed[1], f"{where}[{index}]")
    elif mapped:
        if not isinstance(value, dict):
            yield f"{where}: must be a mapping"
            return
        for key, item in value.items():
            yield from _typed(item, mapped[1], f"{where}.{key}")
    elif kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (isinstance(value, bool) and kind != "bool"):
            yield f"{where}: {value!r} is not a {kind}"
    elif kind in ("object", "datetime"):
        return
    else:
        yield from _model(value, kind, where)


def _model(value: Any, kind: str, where: str) -> Iterator[str]:
    model = getattr(core_models, kind)
    attributes = {json_name: name for name, json_name in model.attribute_map.items()}
    if not isinstance(value, dict):
        yield f"{where}: must be a mapping ({kind})"
        return
    for key, item in value.items():
        if key not in attributes:
            yield f"{where}.{key}: no such field in {kind}"
        else:
            yield from _typed(item, model.openapi_types[attributes[key]], f"{where}.{key}")
