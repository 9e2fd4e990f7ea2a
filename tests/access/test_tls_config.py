"""Certificates in the configuration file: read, tried, and refused by name."""

from pathlib import Path

import pytest

from router.config.findings import ConfigError
from router.config.load import loads
from router.config.tls_material import client_context, read_server, read_upstream, server_context
from router.control.material import files_of_tls, read_material
from tests.access.authority import Authority

AUTHORITY = Authority()
BASE = """\
version: 1
listeners: [{name: api, address: "127.0.0.1:8443"%s}]
clusters:
  - {name: chat, endpoints: [10.0.0.1:8000]%s}
routes:
  - {name: all, to: chat}
"""


def text(listener: str = "", cluster: str = "", more: str = "") -> str:
    return BASE % (listener and f", tls: {listener}", cluster and f", tls: {cluster}") + more


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text, "w.yaml", {})
    [finding] = caught.value.findings
    return str(finding)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    AUTHORITY.files(tmp_path, "one", "one.test")
    AUTHORITY.files(tmp_path, "two", "two.test")
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    return tmp_path


def test_everything_that_can_be_said(folder: Path) -> None:
    one, two, ca = folder / "one", folder / "two", folder / "ca.pem"
    listener = (
        f"{{cert: {one}.pem, key: {one}.key, client_ca: {ca}, require_client_cert: false, "
        f"min_version: TLSv1.3, sni: [{{names: '*.two.test', cert: {two}.pem, key: {two}.key}}]}}"
    )
    cluster = f"{{ca: {ca}, cert: {two}.pem, key: {two}.key, server_name: engines.test}}"
    config = loads(text(listener, cluster), "w.yaml", {})
    material = read_material(config)
    [pem] = material.listeners
    assert pem is not None
    assert [pair.names for pair in pem.pairs] == [(), ("*.two.test",)]
    assert server_context(pem).minimum_version.name == "TLSv1_3"
    assert client_context(material.clusters["chat"]).check_hostname
    assert {file.name for file in files_of_tls(config)} == {
        *("one.pem", "one.key", "two.pem", "two.key", "ca.pem"),
    }


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("{cert: D/none.pem, key: D/one.key}",
         "w.yaml:2:64: cannot read D/none.pem: No such file or directory"),
        ("{cert: D/one.pem, key: D/two.key}", "D/two.key is not the key of D/one.pem"),
        ("{cert: D/one.key, key: D/one.key}",
         "D/one.key and D/one.key are no PEM certificate and key"),
        ("{cert: D/one.pem, key: D/locked.key}", "D/locked.key: the key has a passphrase"),
        ("{cert: D/one.pem, key: D/one.key, client_ca: D/one.key}",
         "D/one.key holds no PEM certificates"),
        ("{cert: D/one.pem, key: D/one.key, min_version: TLSv1.1}",
         "expected one of TLSv1.2, TLSv1.3, got 'TLSv1.1'"),
        ("{cert: D/one.pem}", "w.yaml:2:57: missing field 'key'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_where_it_stands(folder: Path, tls: str, expected: str) -> None:
    lock(folder)
    here = str(folder)
    found = refused(text(tls.replace("D", here)))
    assert expected.replace("D", here) in found
    assert found.startswith("w.yaml:2:")


def lock(folder: Path) -> None:
    """Put a passphrase on a key."""
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((folder / "one.key").read_bytes(), None)
    locked = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x")
    )
    (folder / "locked.key").write_bytes(locked)


def test_towards_engines_cert_and_key_go_together(folder: Path) -> None:
    found = refused(text("", f"{{cert: {folder}/one.pem}}"))
    assert "cert and key go together" in found


def test_a_tenants_certificates_need_somebody_who_asks_for_them() -> None:
    found = refused(text("", "", "tenants: [{name: a, certificates: a.test}]"))
    assert "no listener asks clients for a certificate (tls.client_ca)" in found


def test_unverified_engines_make_no_use_of_an_authority(folder: Path) -> None:
    assert "verify: false makes no use of it" in refused(
        text("", f"{{verify: false, ca: {folder}/ca.pem}}")
    )


def test_the_admin_api_shows_one_certificate(folder: Path) -> None:
    pair = f"cert: {folder}/one.pem, key: {folder}/one.key"
    admin = f"admin: {{address: '127.0.0.1:1', tls: {{{pair}, sni: [{{names: a, {pair}}}]}}}}"
    assert "the admin API shows one certificate to all" in refused(text("", "", admin))


def test_without_any_files_engines_are_verified_by_the_systems_authorities() -> None:
    config = loads(text("", "{}"), "w.yaml", {})
    tls = config.clusters[0].tls
    assert tls is not None
    assert client_context(read_upstream(tls)).cert_store_stats()["x509_ca"] >= 0


def test_one_pair_is_enough(folder: Path) -> None:
    config = loads(text(f"{{cert: {folder}/one.pem, key: {folder}/one.key}}"), "w.yaml", {})
    tls = config.listeners[0].tls
    assert tls is not None
    assert len(read_server(tls).pairs) == 1
