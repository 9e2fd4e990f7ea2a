"""Hypothesis: no text is too strange, and every configuration survives every way it travels."""

from typing import Any

import msgspec
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config.build import build
from router.config.findings import ConfigError
from router.config.load import loads
from router.config.schema import Config, decode, encode, redacted
from router.core.snapshot import Snapshot
from tests.config.texts import ENV, FULL

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
counts = st.integers(1, 50)
durations = st.integers(1, 10**6).map(lambda millis: f"{millis}ms")
percents = st.integers(0, 100).map(lambda value: f"{value}%")
labels = st.dictionaries(st.sampled_from(["version", "tier"]), st.sampled_from("ab"), max_size=2)
addresses = st.builds(
    lambda a, b, port: f"10.0.{a}.{b}:{port}",
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(1, 65535),
)


def fields(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=optional)


balancers = st.one_of(
    st.just({"type": "round_robin"}),
    st.just({"type": "random"}),
    st.tuples(st.just({"type": "least_request"}), fields(choice_count=st.integers(2, 9))),
    st.tuples(
        st.just({"type": "prefix_hash"}),
        fields(key=st.sampled_from(["prefix", "user", "header:x-s", "cookie:s"])),
    ),
).map(lambda parts: parts if isinstance(parts, dict) else {**parts[0], **parts[1]})
conditions = st.one_of(
    st.text("abc/", min_size=1, max_size=5),
    st.tuples(
        st.sampled_from(["exact", "prefix", "suffix", "contains"]),
        st.text(min_size=1, max_size=5, alphabet="abc/.-"),
        st.booleans(),
    ).map(lambda c: {c[0]: c[1], "invert": c[2]}),
    st.booleans().map(lambda present: {"present": present}),
)


conditions_of_text = conditions.filter(lambda c: isinstance(c, str) or "present" not in c)
values_of_headers = st.dictionaries(
    names.map(lambda name: f"x-{name}"),
    st.sampled_from(["1", "%REQ(x-a)%", "100%% %TENANT%"]),
    max_size=2,
)
edits = fields(
    set=values_of_headers,
    add=values_of_headers,
    add_if_absent=values_of_headers,
    remove=st.just("x-gone"),
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Plain data of a configuration that is right in every respect."""
    clusters = [
        {
            "name": name,
            "endpoints": [
                {"address": address, "labels": draw(labels), "weight": draw(counts)}
                for address in draw(st.lists(addresses, min_size=1, max_size=4, unique=True))
            ],
            **draw(
                fields(
                    balancer=balancers,
                    models=st.lists(names, max_size=2),
                    health=fields(
                        active=st.one_of(st.just("off"), fields(interval=durations, rise=counts)),
                        panic_threshold=percents,
                    ),
                    scrape=st.just("off"),
                    circuit_breaker=fields(max_requests=counts, max_connections=counts),
                )
            ),
        }
        for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))
    ]
    routes = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        arms = []
        for cluster in draw(st.lists(st.sampled_from(clusters), min_size=1, max_size=3)):
            endpoints: Any = cluster["endpoints"]
            subset = draw(st.sampled_from([{}, endpoints[0]["labels"]]))
            arms.append({"cluster": cluster["name"], "subset": subset, "weight": draw(counts)})
        match = fields(
            model=names,
            host=names,
            path=conditions,
            methods=st.just(["GET", "POST"]),
            headers=st.dictionaries(names, conditions, max_size=2),
            query=st.dictionaries(names, conditions, max_size=2),
            size=st.sampled_from(["small", ["large"]]),
            max_tokens=fields(min=st.integers(0, 9), max=st.integers(9, 99)),
            tenant=conditions,
            priority=st.sampled_from(["high", ["low", "normal"]]),
            adapter=st.sampled_from(["sql", {"present": False}]),
            fraction=st.one_of(percents, st.just({"percent": "1%", "by": "request"})),
        )
        on = st.lists(
            st.one_of(st.sampled_from(["5xx", "reset", "gateway-error"]), st.integers(100, 599)),
            min_size=1,
            max_size=3,
        )
        more = fields(
            match=match,
            timeouts=fields(connect=durations, total=durations, idle=st.just(0)),
            rewrite=fields(
                regex=st.just({"pattern": "a(b)", "substitution": r"/\1"}),
                host=names,
                model=names,
            ),
            headers=fields(request=edits, response=edits),
            cors=st.fixed_dictionaries({"allow_origins": st.lists(conditions_of_text, max_size=2)}),
            retry=st.one_of(st.just("off"), fields(attempts=counts, on=on, budget=percents)),
        )
        routes.append({"name": name, "to": arms, **draw(more)})
    answers = [
        {"redirect": {"path": "/x", "strip_query": True}},
        {"direct_response": {"status": 418, "body": "é"}},
    ]
    routes += [
        {"name": f"ANSWER-{number}", **answer}
        for number, answer in enumerate(draw(st.lists(st.sampled_from(answers), max_size=2)))
    ]
    sizes = {"small": {"prompt_tokens": {"max": 99}}, "large": {}}
    aliases = draw(st.sampled_from([{}, {"gpt": "llama"}]))
    terms = {"sizes": sizes, "aliases": aliases}
    return {"version": 1, "clusters": clusters, "routes": routes, **terms}


@given(configurations())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_right_loads_travels_and_builds(data: dict[str, Any]) -> None:
    config = loads(yaml.safe_dump(data), "g.yaml", {})
    assert decode(encode(config)) == config
    assert equal(build(decode(encode(config)), 7), build(config, 7))
    again = yaml.safe_dump(msgspec.to_builtins(redacted(config)))
    assert loads(again, "again.yaml", {}) == config
    assert sum(1 for _ in build(config, 1).endpoints()) == sum(
        len(cluster["endpoints"]) for cluster in data["clusters"]
    )


def equal(one: Snapshot, other: Snapshot) -> bool:
    return one.clusters == other.clusters and one.routes.routes == other.routes.routes


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_text_raises_anything_else(text: str) -> None:
    assert_loads_or_finds(text)


@given(st.text("\t\n -:{}[]&*!|>'\"%@`#?,$abc1.~<=", max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_punctuation_raises_anything_else(text: str) -> None:
    assert_loads_or_finds(text)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["off", "5s", "10%", "1KiB", "a:1", "auto", "file:/", "${X}", "${X:-1}"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "to", "match", "type", "address", "cluster", "endpoints", "on", "exact"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
FIELDS = sorted(Config.__struct_fields__)


@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=5))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_structure_raises_anything_else(data: dict[str, Any]) -> None:
    assert_loads_or_finds(yaml.safe_dump({"version": 1, **data}))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_configuration_is_told_with_its_place(data: st.DataObject) -> None:
    lines = FULL.splitlines()
    index = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["drop", "double", "cut", "junk"]))
    line = lines[index]
    column = data.draw(st.integers(0, len(line)))
    lines[index : index + 1] = {
        "drop": [],
        "double": [line, line],
        "cut": [line[:column]],
        "junk": [line[:column] + data.draw(st.text(max_size=3)) + line[column:]],
    }[kind]
    assert_loads_or_finds("\n".join(lines))


def assert_loads_or_finds(text: str) -> None:
    config, findings = None, ()
    try:
        config = loads(text, "t.yaml", ENV)
    except ConfigError as error:
        findings = error.findings
    if config is not None:
        build(config, 1)
        return
    assert findings
    for finding in findings:
        assert finding.file == "t.yaml"
        assert 1 <= finding.line <= len(text.splitlines()) + 2 and finding.column >= 1
        assert finding.message
        assert "open-sesame" not in str(finding)
