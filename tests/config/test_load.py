"""From text to configuration and snapshot, and every finding at its place."""

from pathlib import Path

import msgspec
import pytest
import yaml

from router.config.build import build, from_backends
from router.config.findings import ConfigError
from router.config.load import load, loads
from router.config.schema import decode, encode, redacted
from router.core.admission.breaker import CircuitBreaker
from router.core.balancers.least_request import LeastRequest
from router.core.balancers.predicted_ttft import PredictedTtft
from router.core.cluster import ActiveHealth, Scrape
from router.core.listener import ListenerLimits
from router.core.retry.policy import RetryOn, RetryPolicy
from router.core.routing import Destination, Matcher, StringMatch, Timeouts
from tests.config.faults import FAULTS
from tests.config.texts import ENV, FULL, MINIMAL


def findings(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "w.yaml", ENV if env is None else env)
    assert caught.value.findings
    return str(caught.value).splitlines()


# --- what comes out -------------------------------------------------------------------------


def test_the_defaults_are_the_cores() -> None:
    snapshot = build(loads(MINIMAL, "w.yaml", {}), 4)
    assert repr(snapshot) == "<Snapshot generation=4 clusters=1 routes=1>"
    cluster = snapshot.clusters["chat"]
    assert cluster.balancer == PredictedTtft.Spec()
    assert cluster.health == ActiveHealth()
    assert cluster.scrape == Scrape()
    assert cluster.breaker == CircuitBreaker()
    assert cluster.panic_threshold == 0.5
    assert snapshot.limits == ListenerLimits()
    route = snapshot.routes.routes[0]
    assert (route.match, route.timeouts, route.retry) == (Matcher(), Timeouts(), RetryPolicy())


def test_everything_arrives_in_the_snapshot() -> None:
    config = loads(FULL, "w.yaml", ENV)
    snapshot = build(config, 1)
    llama, spare = snapshot.clusters.values()
    assert [endpoint.id for endpoint in llama.endpoints] == [
        "llama-8b/10.0.0.1:8000",
        "llama-8b/10.0.0.2:8000",
        "llama-8b/[fd00::3]:8000",
    ]
    assert llama.endpoints[2].host == "fd00::3"
    assert llama.endpoints[0].weight == 3 and llama.endpoints[0].labels == {"version": "v1"}
    assert llama.balancer == LeastRequest.Spec(choice_count=3)
    assert llama.health == ActiveHealth(path="/ping", interval=0.5, expected=(200, 204))
    assert llama.scrape is None and spare.health is None
    assert llama.panic_threshold == 0.25
    assert llama.models == ("llama-8b",)
    assert llama.breaker == CircuitBreaker(max_connections=10, max_pending=0, max_requests=20)
    assert snapshot.limits.max_body == 10 << 20 and snapshot.limits.expose_decision
    assert (snapshot.limits.head_timeout, snapshot.limits.idle_timeout) == (5.0, 0.0)
    preview, rest = snapshot.routes.routes
    assert preview.match == Matcher(
        host="*.example.com",
        path=StringMatch("prefix", "/v1/"),
        methods=("POST", "GET"),
        headers=(
            ("x-version", StringMatch("exact", "v2")),
            ("x-debug", StringMatch("present", invert=True)),
            ("x-tier", StringMatch("regex", "gold|silver")),
        ),
        model="llama-*",
    )
    assert preview.destinations == (Destination("llama-8b", 1, (("version", "v2"),)),)
    assert preview.timeouts == Timeouts(
        connect=1.0, first_byte=30.0, idle=0.0, total=600.0, queue=0.25
    )
    assert preview.retry == RetryPolicy(
        attempts=1,
        on=RetryOn.FIVE_XX | RetryOn.RETRIABLE_STATUS_CODES,
        status_codes=frozenset({429}),
        per_try_timeout=2.5,
        budget_percent=12.5,
        min_retry_concurrency=7,
    )
    assert rest.match.path == StringMatch("exact", "/v1/chat/completions")
    assert rest.retry.attempts == 0
    assert [arm.weight for arm in rest.destinations] == [9, 1]


def test_workers_get_everything_but_the_token() -> None:
    config = loads(FULL, "w.yaml", ENV)
    data = encode(config)
    assert b"open-sesame" not in data
    received = decode(data)
    assert received.admin is not None and received.admin.token is None
    assert config.admin is not None
    assert msgspec.structs.replace(received, admin=config.admin) == config
    assert build(received, 1).routes.routes == build(config, 1).routes.routes


def test_a_dump_can_be_read_again_and_shows_no_secret() -> None:
    config = loads(FULL, "w.yaml", ENV)
    dumped = redacted(config)
    assert "open-sesame" not in repr(dumped) + repr(config) + str(config)
    assert dumped["admin"]["address"] == "0.0.0.0:9901"
    assert dumped["admin"]["token"] == "<redacted>"
    dumped["admin"]["token"] = "${ADMIN_TOKEN}"
    text = yaml.safe_dump(msgspec.to_builtins(dumped), sort_keys=False)
    assert loads(text, "dump.yaml", ENV) == config


def test_a_variable_is_what_its_field_expects() -> None:
    text = MINIMAL.replace("[10.0.0.1:8000]", "[{address: '10.0.0.1:${PORT}', weight: '${W:-7}'}]")
    endpoint = loads(text, "w.yaml", ENV).clusters[0].endpoints[0]
    assert (endpoint.address, endpoint.weight) == ("10.0.0.1:8123", 7)
    assert loads(MINIMAL + "workers: ${N}\n", "w.yaml", {"N": "3"}).workers == 3
    assert loads(MINIMAL + "workers: ${N}\n", "w.yaml", {"N": "auto"}).workers == "auto"
    named = MINIMAL.replace("name: all", "name: ${N}")
    assert loads(named, "w.yaml", {"N": "007"}).routes[0].name == "007"
    # What a variable holds is one value, whatever it looks like.
    [finding] = findings(named, {"N": "x\nadmin: {}"})
    assert finding.startswith("w.yaml:6:11: expected a text matching regex")


def test_dollars_that_are_no_variables_stay() -> None:
    text = MINIMAL.replace("to: chat", 'match: {path: {regex: "^/v1/.*$"}}\n    to: chat')
    condition = loads(text, "w.yaml", {}).routes[0].match.path
    assert condition is not None and condition.regex == "^/v1/.*$"
    text = text.replace(".*$", ".*$${X}")
    condition = loads(text, "w.yaml", {}).routes[0].match.path
    assert condition is not None and condition.regex == "^/v1/.*${X}"


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    text = f"{MINIMAL}admin: {{address: 0.0.0.0:9901, token: 'file:{tmp_path}/token'}}\n"
    admin = loads(text, "w.yaml", {}).admin
    assert admin is not None and admin.token is not None
    assert admin.token.reveal() == "from-a-file"
    [gone] = findings(text.replace("/token'", "/gone'"))
    assert f"cannot read {tmp_path}/gone: No such file or directory" in gone


# --- several files --------------------------------------------------------------------------


def test_a_directory_is_merged_in_name_order(tmp_path: Path) -> None:
    (tmp_path / "10-chat.yaml").write_text(MINIMAL)
    (tmp_path / "20-code.yaml").write_text(
        "version: 1\nclusters: [{name: code, endpoints: ['10.0.1.1:8000']}]\n"
        "routes: [{name: code, to: code}]\nworkers: 3\n"
    )
    (tmp_path / "20-code.test.yaml").write_text("cases: []\n")
    config = load(tmp_path, {})
    assert [cluster.name for cluster in config.clusters] == ["chat", "code"]
    assert [route.name for route in config.routes] == ["all", "code"]
    assert config.workers == 3


def test_findings_name_the_file_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL + "workers: 2\n")
    (tmp_path / "b.yaml").write_text(
        "workers: 3\nroutes:\n  - name: code\n    to: chats\n  - {name: all, to: chat}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {})
    assert str(caught.value) == (
        f"{tmp_path}/b.yaml:1:1: field 'workers' is given in {tmp_path}/a.yaml:8 already"
    )
    (tmp_path / "b.yaml").write_text(
        "routes:\n  - name: code\n    to: chats\n  - {name: all, to: chat}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {})
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/b.yaml:3:9: no cluster is named 'chats' (did you mean 'chat'?)",
        f"{tmp_path}/b.yaml:4:12: duplicate route 'all'",
    ]


@pytest.mark.parametrize("path", ["off", "stderr", "/var/log/warmpath.log"])
def test_a_plain_text_is_the_access_logs_path(path: str) -> None:
    config = loads(f"access_log: {path}\n{MINIMAL}", "w.yaml", {})
    assert config.access_log.path == path
    assert loads(f"access_log: {{path: {path}}}\n{MINIMAL}", "w.yaml", {}) == config


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot read: No such file"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="expected 1 to 1000"):
        load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"version: 1 # \xe9\n")
    with pytest.raises(ConfigError, match=r":1:14: not UTF-8 at byte 13"):
        load(tmp_path / "latin.yaml")


# --- what is wrong, and where ---------------------------------------------------------------


@pytest.mark.parametrize(("old", "new", "expected"), FAULTS, ids=[f[1][-40:] for f in FAULTS])
def test_one_fault_one_finding(old: str, new: str, expected: str) -> None:
    assert MINIMAL.count(old) == 1 or old == "to: chat"
    assert findings(MINIMAL.replace(old, new)) == [expected]


def test_all_faults_of_a_step_are_told_at_once() -> None:
    text = """\
version: 1
worker: 2
clusters:
  - name: chat
    endpoints: [10.0.0.1:80000, {addres: "10.0.0.2:8000"}]
    balancer: {type: prefix_hash, bound: 0.5, kei: user}
    health: {active: {intervall: 2s, rise: 0}}
routes:
  - to: chat
    timeouts: {total: 5}
"""
    assert findings(text) == [
        "w.yaml:2:1: unknown field 'worker' (did you mean 'workers'?)",
        "w.yaml:5:17: a port is a number up to 65535, got '10.0.0.1:80000'",
        "w.yaml:5:33: missing field 'address'",
        "w.yaml:5:34: unknown field 'addres' (did you mean 'address'?)",
        "w.yaml:6:42: expected a number >= 1.0, got 0.5",
        "w.yaml:6:47: unknown field 'kei' (did you mean 'key'?)",
        "w.yaml:7:23: unknown field 'intervall' (did you mean 'interval'?)",
        "w.yaml:7:44: expected a whole number >= 1, got 0",
        "w.yaml:9:5: missing field 'name'",
        "w.yaml:10:23: expected a text, with its unit: 250ms, 5s, 1m30s or 1h, got 5",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "w.yaml:1:1: the file is empty"),
        ("# nothing\n", "w.yaml:1:1: the file is empty"),
        ("- 1\n", "w.yaml:1:1: a configuration is a mapping of fields"),
        (
            "a: 1\n---\nb: 2\n",
            "w.yaml:2:1: a file holds one configuration: no other document may follow (---)",
        ),
        (
            "a: 1\n  b: 1\n",
            "w.yaml:2:4: not YAML: mapping values are not allowed here",
        ),
        (
            "a:\n  - b\n c: 1\n",
            "w.yaml:3:2: not YAML: expected <block end>, but found '<block mapping start>'; "
            "is this line indented as those above it?",
        ),
        ("a: \x01\n", "w.yaml:1:4: not YAML: a character that is not allowed in YAML"),
        ("a: " + "[" * 5000, "w.yaml:1:1: nested too deeply; at most 32 levels"),
    ],
)
def test_texts_that_are_no_configuration(text: str, message: str) -> None:
    assert findings(text) == [message]


def test_aliases_work_and_cannot_explode() -> None:
    text = MINIMAL.replace("[10.0.0.1:8000]", "&e [10.0.0.1:8000]").replace(
        "routes:", "  - {name: other, endpoints: *e}\nroutes:"
    )
    assert loads(text, "w.yaml", {}).clusters[1].endpoints[0].address == "10.0.0.1:8000"
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert any(
        "too large or refers to itself" in f for f in findings("\n".join(["l0: &l0 x", *levels]))
    )
    assert any("too large or refers to itself" in f for f in findings("a: &a [*a]"))


def test_the_value_of_a_variable_is_not_told() -> None:
    text = MINIMAL + "admin: {address: 127.0.0.1:9901, token: '${T}'}\n"
    for secret in ("", "x" * 5000, "caf\u00e9-secret"):
        [finding] = findings(text, {"T": secret})
        assert finding == "w.yaml:8:41: a secret is 1 to 4096 printable ASCII characters"


# --- configurations from elsewhere ----------------------------------------------------------


def test_build_refuses_what_load_would_have_refused() -> None:
    config = loads(MINIMAL, "w.yaml", {})
    route = msgspec.structs.replace(
        config.routes[0], to=(msgspec.structs.replace(config.routes[0].to[0], cluster="x"),)
    )
    with pytest.raises(ConfigError) as caught:
        build(msgspec.structs.replace(config, routes=(route,)), 1)
    assert str(caught.value) == "routes[0].to[0].cluster: no cluster is named 'x'"


def test_backends_on_the_command_line() -> None:
    config = from_backends(["http://localhost:8000", "http://engine/", "[::1]:9000"])
    snapshot = build(config, 1)
    cluster = snapshot.clusters["default"]
    assert [e.address for e in cluster.endpoints] == ["localhost:8000", "engine:80", "[::1]:9000"]
    assert cluster.balancer == PredictedTtft.Spec()
    assert snapshot.routes.routes[0].match == Matcher()


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ([], "at least one --backend is needed"),
        (["https://a:1"], "--backend https://a:1: the scheme must be http, not 'https'"),
        (["http://a:1/v1"], "--backend http://a:1/v1: a backend is http://host:port without path"),
        (["http://a:99999"], "--backend http://a:99999: "),
        (["a"], "--backend a: expected host:port"),
        (["a:1", "http://a:1"], "--backend: duplicate endpoint 'a:1'"),
    ],
)
def test_backends_that_are_none(urls: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_backends(urls)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("limits", "by_model"),
    [("{}", False), ("{requests: 1/s}", False), ("{models: {m: {requests: 1/s}}}", True)],
)
def test_a_tenant_knows_whether_models_have_limits(limits: str, by_model: bool) -> None:
    text = f"{MINIMAL}tenants: [{{name: t, keys: ['${{K}}'], limits: {limits}}}]\n"
    snapshot = build(loads(text, "w.yaml", {"K": "k" * 20}), 1)
    assert snapshot.access is not None
    assert snapshot.access.tenants["t"].by_model is by_model
