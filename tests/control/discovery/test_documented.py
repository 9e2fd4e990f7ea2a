"""What docs/discovery.md tells people to write can be used."""

import re
from pathlib import Path

import pytest
import yaml

from router.config.discovery import SPECS
from router.config.load import loads
from router.control.discovery.file import read_endpoints

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/discovery.md").read_text()
BLOCKS = [
    re.sub("^ {4}", "", block, flags=re.MULTILINE)
    for block in re.findall(r"(?:^ {4}.+\n)+", TEXT, re.MULTILINE)
]
ROUTES = "routes: [{name: all, to: from-a-file}]\n"


def block(start: str) -> str:
    (found,) = (block for block in BLOCKS if block.startswith(start))
    return found


def test_the_clusters_load_and_show_every_source():
    pytest.importorskip("aiodns")
    config = loads("version: 1\n" + block("clusters:") + ROUTES, "discovery.md", {})
    assert [type(cluster.discovery) for cluster in config.clusters] == list(SPECS)


def test_the_list_of_endpoints_can_be_read(tmp_path):
    path = tmp_path / "engines.yaml"
    path.write_text(block("- 10.0.0.1"))
    assert [spec.drain for spec in read_endpoints(path)] == [False, False, True]


def test_the_role_allows_what_is_done():
    role = yaml.safe_load(block("apiVersion"))
    assert role["rules"] == [
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        }
    ]
