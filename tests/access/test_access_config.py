"""Tenants, keys and addresses in the configuration file."""

import hashlib
from pathlib import Path

import pytest

from router.config.build import build
from router.config.findings import ConfigError
from router.config.load import loads
from router.config.schema import decode, encode, redacted

BASE = """\
version: 1
listeners: [{name: api, address: "127.0.0.1:8080"}]
clusters:
  - {name: chat, endpoints: [10.0.0.1:8000]}
routes:
  - {name: all, to: chat}
"""
DIGEST = hashlib.sha256(b"sk-one").hexdigest()


def findings(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(BASE + text, "w.yaml", env or {})
    return [str(finding) for finding in caught.value.findings]


def test_keys_are_digests_or_secrets(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-two\n")
    text = f"""
tenants:
  - name: acme
    keys: [{{sha256: {DIGEST}}}, "file:{file}", "${{THIRD}}", {{secret: "${{FOURTH}}"}}]
"""
    config = loads(BASE + text, "w.yaml", {"THIRD": "sk-three", "FOURTH": "sk-four"})
    access = build(config, 1).access
    assert access is not None
    digests = access.tenants["acme"].keys
    keys = (b"sk-one", b"sk-two", b"sk-three", b"sk-four")
    assert digests == tuple(hashlib.sha256(key).digest() for key in keys)


def test_nothing_that_leaves_control_holds_a_key(tmp_path: Path) -> None:
    text = """
tenants: [{name: acme, keys: "${KEY}"}]
admin: {tokens: [{name: viewer, token: "${TOKEN}"}]}
"""
    config = loads(BASE + text, "w.yaml", {"KEY": "sk-very-secret", "TOKEN": "open-sesame"})
    dumped = redacted(config)
    for told in (repr(dumped), repr(config), repr(build(config, 1)), repr(encode(config))):
        assert "sk-very-secret" not in told
        assert "open-sesame" not in told
    shown = hashlib.sha256(b"sk-very-secret").hexdigest()[:12] + "..."
    assert dumped["tenants"][0]["keys"][0]["sha256"] == shown
    access = build(decode(encode(config)), 1).access
    assert access is not None
    assert access.tenants["acme"].keys == (hashlib.sha256(b"sk-very-secret").digest(),)


def test_the_engines_credential_travels_to_workers_and_is_not_shown() -> None:
    text = BASE.replace(
        "endpoints: [10.0.0.1:8000]}", 'endpoints: [10.0.0.1:8000], auth: {bearer: "${UP}"}}'
    )
    config = loads(text, "w.yaml", {"UP": "engine-key"})
    assert "engine-key" not in repr(redacted(config)) + repr(config)
    cluster = build(decode(encode(config)), 1).clusters["chat"]
    assert cluster.credential == b"authorization: Bearer engine-key"


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("", ["off"]),
        ("tenants: [{name: a}]", ["required"]),
        ("tenants: [{name: a}]\nauth: optional", ["optional"]),
        ("tenants: [{name: a}]\nauth: {mode: off}", ["off"]),
    ],
)
def test_who_has_to_say_who_he_is(text: str, modes: list[str]) -> None:
    config = loads(BASE + text, "w.yaml", {})
    assert [listener.auth for listener in build(config, 1).listeners] == modes


def test_a_listener_may_differ() -> None:
    text = BASE.replace('8080"}', '8080"}, {name: inside, address: "127.0.0.1:8081", auth: off}')
    config = loads(text + "tenants: [{name: a}]", "w.yaml", {})
    assert [listener.auth for listener in build(config, 1).listeners] == ["required", "off"]


FAULTS = [
    ("tenants: [{name: a, keys: [plain-key]}]",
     "w.yaml:7:28: a secret does not stand in the file itself; write file:/run/secrets/token or "
     "${TOKEN}"),
    ("tenants: [{name: a, keys: [{sha256: abc}]}]",
     "w.yaml:7:37: expected a text matching regex '^[0-9a-fA-F]{64}$', got the text 'abc'"),
    ("tenants: [{name: a, keys: [{}]}]", "w.yaml:7:28: give exactly one of sha256, secret"),
    (f"tenants: [{{name: a, keys: [{{sha256: {DIGEST}}}]}}, "
     f"{{name: b, keys: [{{sha256: {DIGEST}}}]}}]",
     "w.yaml:7:123: this key belongs to tenant 'a' already"),
    ("tenants: [{name: a}, {name: a}]", "w.yaml:7:29: duplicate tenant 'a'"),
    ("auth: required", "w.yaml:7:7: 'required' needs tenants, and none is configured"),
    ("auth: {jwt: {issuer: i, audiences: a, jwks: 'https://i/keys'}}",
     "w.yaml:7:13: tokens need tenants, and none is configured"),
    ("tenants: [{name: acme}]\nauth: {jwt: {issuer: i, audiences: a, jwks: 'file:/k', "
     "tenants: {x: acne}}}",
     "w.yaml:8:69: no tenant is named 'acne' (did you mean 'acme'?)"),
    ("tenants: [{name: a}]\nauth: {jwt: {issuer: i, audiences: a, jwks: 'file:/k', "
     "algorithms: HS256}}", "w.yaml:8:68: "),
    ("admin: {tokens: [{name: a, token: '${T}'}, {name: b, token: '${T}'}]}",
     "w.yaml:7:61: this token stands for somebody already"),
    ("admin: {address: '127.0.0.1:1', allow: 10.0.0.1/8}",
     "w.yaml:7:40: not a network: 10.0.0.1/8 has host bits set"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=[fault[1][:60] for fault in FAULTS])
def test_one_fault_one_finding(text: str, expected: str) -> None:
    [found] = findings(text, {"T": "open-sesame"})
    assert found == expected or (expected.endswith(": ") and found.startswith(expected))


def test_trusting_hops_and_networks_at_once_is_refused() -> None:
    text = BASE.replace('8080"}', '8080", trusted_hops: 1, trusted_proxies: 10.0.0.0/8}')
    with pytest.raises(ConfigError, match="trusted_hops and trusted_proxies: give one"):
        loads(text, "w.yaml", {})
