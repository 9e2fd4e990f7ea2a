"""Whose a credential is, and what it permits."""

import math

import pytest

from router.core import errors
from router.core.access.names import BothSets, NameSet
from router.core.access.tenants import (
    MAX_REMEMBERED,
    Access,
    Identity,
    Tenant,
    digest,
    forbidden,
    identity,
    missing,
)
from router.core.model import LlmRequest, Priority

ACME = Tenant(
    name="acme",
    keys=(digest(b"old-key"), digest(b"new-key")),
    models=NameSet(["llama-*", "gpt-oss"]),
    priority=Priority.HIGH,
)
OTHER = Tenant(name="other", keys=(digest(b"other-key"),), certificates=NameSet(["spiffe://b/*"]))


def no_tokens(token: bytes) -> Identity:
    raise AssertionError("no token was sent")


@pytest.mark.parametrize(
    ("key", "tenant"), [(b"old-key", "acme"), (b"new-key", "acme"), (b"other-key", "other")]
)
def test_every_key_leads_to_its_tenant(key: bytes, tenant: str) -> None:
    found = Access([ACME, OTHER]).identify(key, no_tokens)
    assert (found.tenant, found.means) == (tenant, "key")


def test_an_identity_carries_the_tenants_priority_and_models() -> None:
    found = Access([ACME, OTHER]).identify(b"old-key", no_tokens)
    assert found.priority is Priority.HIGH
    assert found.models == NameSet(["llama-*", "gpt-oss"])


@pytest.mark.parametrize("key", [b"", b"old-ke", b"old-keyy", b"OLD-KEY", digest(b"old-key")])
def test_anything_else_is_nobodys(key: bytes) -> None:
    with pytest.raises(errors.Unauthorized) as refused:
        Access([ACME, OTHER]).identify(key, no_tokens)
    assert refused.value.reason == "unknown_key"
    assert refused.value.code == "invalid_api_key"
    assert key.decode("latin-1") not in refused.value.message or not key


def test_only_good_credentials_are_remembered() -> None:
    access = Access([ACME])
    assert access.known(b"old-key", 0) is None
    with pytest.raises(errors.Unauthorized):
        access.identify(b"guess", no_tokens)
    assert access.known(b"guess", 0) is None
    found = access.identify(b"old-key", no_tokens)
    assert access.known(b"old-key", 0) is found


def test_a_remembered_token_ends_when_it_expires() -> None:
    access = Access([ACME], tokens=True)
    token = b"eyJ.eyJ.sig"
    access.identify(token, lambda _: identity(ACME, "token", expires_at=100.0))
    assert access.known(token, 99.9) is not None
    assert access.known(token, 100.0) is None
    assert access.known(token, 99.9) is None, "it was forgotten for good"


def test_new_signing_keys_forget_what_was_remembered() -> None:
    access = Access([ACME])
    access.identify(b"old-key", no_tokens)
    access.forget()
    assert access.known(b"old-key", 0) is None


def test_what_is_remembered_is_bounded() -> None:
    access = Access([ACME], tokens=True)
    for number in range(MAX_REMEMBERED + 1):
        access.identify(b"eyJ.%d.x" % number, lambda _: identity(ACME, "token"))
    assert repr(access) == "<Access tenants=1 remembered=1>"


def test_a_key_that_looks_like_a_token_is_a_key_where_no_tokens_are_taken() -> None:
    tenant = Tenant(name="odd", keys=(digest(b"eyJ.a.b"),))
    assert Access([tenant]).identify(b"eyJ.a.b", no_tokens).tenant == "odd"


@pytest.mark.parametrize(
    ("names", "tenant"), [(("x", "spiffe://b/c"), "other"), (("spiffe://c/b",), None), ((), None)]
)
def test_a_certificates_names_lead_to_a_tenant(names: tuple[str, ...], tenant: str | None) -> None:
    found = Access([ACME, OTHER]).by_certificate(names)
    assert (found.tenant if found else None) == tenant


def test_without_a_credential() -> None:
    assert missing("optional").tenant is None
    with pytest.raises(errors.Unauthorized) as refused:
        missing("required")
    assert refused.value.status == 401
    assert refused.value.headers == (b"www-authenticate: Bearer",)


# --- models ------------------------------------------------------------------------------------

REQUEST = LlmRequest(
    id="1", method="POST", path="/", tenant="acme", permitted=ACME.models, body_bytes=9
)


@pytest.mark.parametrize(
    ("model", "permitted"),
    [("llama-8b", True), ("gpt-oss", True), ("gpt-oss-120b", False), ("Llama-8b", False)],
)
def test_models_are_permitted_by_name_or_glob(model: str, permitted: bool) -> None:

    error = forbidden(REQUEST.but(model=model))
    if permitted:
        assert error is None
    else:
        assert error is not None
        assert error.status == 403
        assert f"`{model}`" in error.message and "`acme`" in error.message


def test_a_body_that_names_no_model_could_be_taken_for_any() -> None:
    error = forbidden(REQUEST)
    assert error is not None
    assert error.param == "model"


def test_a_request_without_a_body_asks_for_no_model() -> None:
    assert forbidden(LlmRequest(id="1", method="GET", path="/", permitted=ACME.models)) is None


def test_a_tokens_models_narrow_the_tenants() -> None:
    found = identity(ACME, "token", NameSet(["llama-8b", "secret"]), math.inf)
    assert isinstance(found.models, BothSets)
    assert found.models.permits("llama-8b")
    assert not found.models.permits("llama-70b")
    assert not found.models.permits("secret")
