"""What is compiled keeps to what compiles: see docs/adr/0014."""

import ast
import re
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[2]
MODULES = re.findall(r'"(router/[a-z_/]+\.py)"', (ROOT / "setup.py").read_text())


def test_there_are_modules_to_compile() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("module", MODULES)
def test_it_defines_neither_structs_nor_errors(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    bases = [
        ast.unparse(base)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    ]
    assert not [base for base in bases if re.search(r"Struct|Error|Exception|Section", base)]


@pytest.mark.parametrize("module", MODULES)
def test_it_makes_no_object_without_its_constructor(module: str) -> None:
    assert ".__new__(" not in (ROOT / module).read_text()


def test_whoever_inherits_from_what_is_compiled_is_compiled() -> None:
    trees = {
        str(path.relative_to(ROOT)): ast.parse(path.read_text())
        for path in (ROOT / "router").rglob("*.py")
    }
    classes = {
        module: [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for module, tree in trees.items()
    }
    compiled = {node.name for module in MODULES for node in classes[module]}
    heirs = {
        f"{module}: {node.name}"
        for module, nodes in classes.items()
        for node in nodes
        if module not in MODULES
        and (compiled & {ast.unparse(base) for base in node.bases}) - {one.name for one in nodes}
    }
    assert not heirs


def test_what_is_compiled_inherits_only_from_what_is() -> None:
    known = {
        node.name
        for module in MODULES
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.ClassDef)
    }
    ours = known | {"enum.IntEnum", "Protocol"}
    strangers = {
        f"{module}: {ast.unparse(base)}"
        for module in MODULES
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if ast.unparse(base) not in ours
    }
    assert not strangers


def test_hot_functions_are_functions_of_compiled_modules() -> None:
    """Who renames one runs ``python -m bench.hot_functions`` again."""
    lines = (ROOT / "router/hot_functions.txt").read_text().splitlines()
    assert len(lines) > 100
    assert lines == sorted(set(lines))
    known = set()
    for path in MODULES:
        module = path.removesuffix(".py").replace("/", ".")
        for node in ast.parse((ROOT / path).read_text()).body:
            inner = node.body if isinstance(node, ast.ClassDef) else []
            known.update(f"{module} {node.name}.{one.name}" for one in inner if _is_function(one))
            if _is_function(node):
                known.add(f"{module} {node.name}")
    assert set(lines) <= known


def _is_function(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef)
