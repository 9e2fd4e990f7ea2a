"""What docs/policies-compared.md tells people to write can be used, and means what it says."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from router.config.lint import lint_texts
from router.config.load import loads

TEXT = (Path(__file__).parents[2] / "docs/policies-compared.md").read_text()
BLOCKS = [
    textwrap.dedent(block)
    for block in re.findall(r"(?:^ {4}.+\n)+", TEXT, re.MULTILINE)
    if block.startswith("    balancer:")
]
CONFIG = """\
version: 1
workers: 1
clusters:
  - name: chat
    endpoints: ["10.0.0.1:8000", "10.0.0.2:8000"]
%s
routes: [{name: all, to: chat}]
"""


def config(block: str) -> str:
    return CONFIG % textwrap.indent(block, "    ")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block[:40])
def test_an_example(block: str) -> None:
    loads(config(block), "policies-compared.md", {})
    assert lint_texts({"w.yaml": config(block)}, {}) == []


def test_all_examples_are_there() -> None:
    kinds = [yaml.safe_load(block)["balancer"]["type"] for block in BLOCKS]
    assert sorted(kinds) == sorted(
        ["ring_hash", "prefix_hash", "chwbl", "cache_aware", "scored", "dynamo_cost"]
    )


@pytest.mark.parametrize("kind", ["chwbl", "cache_aware", "scored", "dynamo_cost"])
def test_examples_of_the_defaults_are_the_defaults(kind: str) -> None:
    (block,) = (one for one in BLOCKS if f"type: {kind}" in one)
    default = CONFIG % f"    balancer: {{type: {kind}}}"
    written, plain = (
        loads(text, "w.yaml", {}).clusters[0].balancer for text in (config(block), default)
    )
    assert written == plain


def test_the_field_values_that_are_named() -> None:
    """Fields of ours in backquotes, ``name: value``, of one balancer each."""
    for fields, kind in [
        ("balance_abs_threshold: 8, balance_rel_threshold: 1", "cache_aware"),
        (
            "cache_threshold: 0.1, balance_abs_threshold: 10, balance_rel_threshold: 1",
            "cache_aware",
        ),
        ("hash_balance_factor: 150", "ring_hash"),
        ("depth: 2", "chwbl"),
        ("selection: full_scan", "least_request"),
    ]:
        assert f"`{fields}`" in TEXT
        loads(config(f"balancer: {{type: {kind}, {fields}}}"), "w.yaml", {})
