"""What is compiled keeps to what compiles: see docs/adr/0014."""

import ast
import re
from pathlib import Path

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
