"""Prompts' beginnings are hashed where a balancer or a route looks at the hash, and only there."""

import random

import pytest

from router.config.build import build
from router.config.load import loads
from router.core.director import Director
from router.core.fleet import Fleet

CONFIG = """
version: 1
clusters:
  - {{name: a, balancer: {{type: {balancer}}}, endpoints: [{{address: 10.0.0.1:80}}]}}
  - {{name: b, balancer: {{type: round_robin}}, endpoints: [{{address: 10.0.0.2:80}}]}}
routes:
  - {{name: main, {route}}}
"""
ONE = "to: a"
TWO = "to: [{cluster: a, weight: 9}, {cluster: b, weight: 1}]"


@pytest.mark.parametrize(
    ("balancer", "route", "read"),
    [
        ("least_request", ONE, False),
        ("round_robin", ONE, False),
        ("random", ONE, False),
        ("peak_ewma", ONE, False),
        ("prefix_hash", ONE, True),
        ("predicted_ttft", ONE, True),
        ("ring_hash, key: prefix", ONE, True),
        ("least_request", TWO, True),
        ("least_request", f"{TWO}, split: request", False),
        ("least_request", f"{ONE}, match: {{fraction: 5%}}", True),
        ("least_request", f"{ONE}, match: {{fraction: {{percent: 5%, by: request}}}}", False),
    ],
)
def test_who_reads_it(balancer: str, route: str, read: bool) -> None:
    text = CONFIG.format(balancer=balancer, route=route)
    director = Director(build(loads(text, "test"), 1), Fleet(), random.Random(1))
    assert director.reads_conversation is read
