"""JSON Web Tokens: signatures, claims, and what becomes of them in time."""

from typing import Any

import jwt
import msgspec
import pytest

from router.core import errors
from router.core.access.claims import Issuer, judge
from router.core.access.names import NameSet
from router.core.access.tenants import Access, Tenant
from router.proxy.tokens import MAX_TOKEN, TokenReader
from tests.access.issuer import AUDIENCE, NAME, NOW, Key, key_set

ISSUER = Issuer(name=NAME, audiences=(AUDIENCE, "second"))
TENANTS = {
    "acme": Tenant(name="acme", models=NameSet(["llama-*"])),
    "other": Tenant(name="other"),
}
CLAIMS = {"iss": NAME, "aud": AUDIENCE, "sub": "acme", "exp": NOW + 600}
KEY = Key()


def reader(*keys: dict[str, Any], issuer: Issuer = ISSUER, now: float = NOW) -> TokenReader:
    return TokenReader((issuer,), TENANTS, {issuer.name: key_set(*keys)}, lambda: now)


def reason(read: TokenReader, token: bytes) -> str:
    with pytest.raises(errors.Unauthorized) as refused:
        read.identify(token)
    assert refused.value.message == "Incorrect API key provided.", "the client learns no more"
    return refused.value.reason


# --- claims, with a hand clock ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "now", "refused"),
    [
        ({}, NOW, None),
        ({"aud": ["x", "second"]}, NOW, None),
        ({"aud": "x"}, NOW, "token_audience"),
        ({"aud": None}, NOW, "token_audience"),
        ({"iss": "https://elsewhere"}, NOW, "token_issuer"),
        ({}, NOW + 600, None),  # within the leeway of 30 s
        ({}, NOW + 629.9, None),
        ({}, NOW + 630, "token_expired"),
        ({"exp": True}, NOW, "token_malformed"),
        ({"exp": "soon"}, NOW, "token_malformed"),
        ({"nbf": NOW + 30}, NOW, None),
        ({"nbf": NOW + 31}, NOW, "token_not_yet_valid"),
        ({"sub": "stranger"}, NOW, "token_tenant"),
        ({"sub": None}, NOW, "token_tenant"),
        ({"sub": ["stranger", "acme"]}, NOW, None),
    ],
)
def test_claims(claims: dict[str, Any], now: float, refused: str | None) -> None:
    given = CLAIMS | claims
    if refused is None:
        assert judge(ISSUER, given, TENANTS, now).tenant == "acme"
        return
    with pytest.raises(errors.Unauthorized) as caught:
        judge(ISSUER, given, TENANTS, now)
    assert caught.value.reason == refused


def test_a_claims_values_may_be_mapped_to_tenants() -> None:
    issuer = msgspec.structs.replace(
        ISSUER, tenant_claim="groups", tenants={"team-a": "acme", "team-b": "other"}
    )
    claims = CLAIMS | {"groups": ["everybody", "team-b"]}
    assert judge(issuer, claims, TENANTS, NOW).tenant == "other"
    with pytest.raises(errors.Unauthorized):
        judge(issuer, CLAIMS | {"groups": ["acme"]}, TENANTS, NOW)


@pytest.mark.parametrize("models", [["llama-8b", "gpt"], "llama-8b gpt"])
def test_a_models_claim_narrows_what_the_tenant_may_use(models: Any) -> None:
    issuer = msgspec.structs.replace(ISSUER, models_claim="models")
    found = judge(issuer, CLAIMS | {"models": models}, TENANTS, NOW).models
    assert found is not None
    assert [found.permits(name) for name in ("llama-8b", "llama-70b", "gpt")] == [
        True,
        False,
        False,
    ]


def test_it_is_remembered_until_it_expires() -> None:
    assert judge(ISSUER, CLAIMS, TENANTS, NOW).expires_at == NOW + 630
    forever = {name: value for name, value in CLAIMS.items() if name != "exp"}
    assert judge(ISSUER, forever, TENANTS, NOW).expires_at == NOW + 86400


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
def test_every_kind_of_key(algorithm: str) -> None:
    key = Key(algorithm)
    issuer = msgspec.structs.replace(ISSUER, algorithms=(algorithm,))
    found = reader(key.public(), issuer=issuer).identify(key.sign())
    assert (found.tenant, found.means) == ("acme", "token")


def test_the_key_is_found_by_its_id() -> None:
    other = Key(kid="k2")
    read = reader(KEY.public(), other.public())
    assert read.identify(other.sign()).tenant == "acme"
    assert reason(read, other.sign({"kid": "k1"})) == "token_signature"
    assert reason(read, other.sign({"kid": "k3"})) == "token_key"


def test_a_token_without_a_key_id_is_tried_with_all() -> None:
    old, new = Key(kid=None), Key(kid=None)
    read = reader(old.public(), new.public())
    assert read.identify(new.sign()).tenant == "acme"


def test_what_an_attacker_would_try() -> None:
    read = reader(KEY.public())
    claims = {**CLAIMS}
    unsigned = jwt.encode(claims, None, "none").encode()
    assert reason(read, unsigned) == "token_algorithm"
    public = msgspec.json.encode(KEY.public())
    confused = jwt.encode(claims, public + b"x" * 32, "HS256", {"kid": "k1"}).encode()
    assert reason(read, confused) == "token_algorithm"
    head, body, signature = KEY.sign().split(b".")
    forged = KEY.sign(sub="other").split(b".")[1]
    assert reason(read, b".".join([head, forged, signature])) == "token_signature"
    assert reason(read, b".".join([head, body, b""])) == "token_signature"
    assert reason(read, Key().sign()) == "token_signature"
    assert reason(read, KEY.sign(iss="https://elsewhere")) == "token_issuer"


def test_a_shared_secret_in_the_set_is_no_key() -> None:
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"}
    assert repr(reader(secret)) == f"<TokenReader {{'{NAME}': 0}}>"


def test_a_key_keeps_to_its_own_algorithm_and_use() -> None:
    assert reason(reader(KEY.public(alg="ES384")), KEY.sign()) == "token_key"
    assert reason(reader(KEY.public(use="enc")), KEY.sign()) == "token_key"


@pytest.mark.parametrize(
    "token", [b"eyJ.eyJ.x", b"eyJh.%%.x", b"eyJ" + b"a" * MAX_TOKEN + b".b.c", b"eyJ\xff.a.b"]
)
def test_what_is_no_token(token: bytes) -> None:
    assert reason(reader(KEY.public()), token) == "token_malformed"


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [1, {}]}', b"\xff"])
def test_a_broken_key_set_has_no_keys(junk: bytes) -> None:
    read = TokenReader((ISSUER,), TENANTS, {NAME: junk}, lambda: NOW)
    assert reason(read, KEY.sign()) == "token_key"


def test_a_token_is_checked_once_and_again_when_it_has_expired() -> None:
    now = NOW
    checked = 0
    read = TokenReader((ISSUER,), TENANTS, {NAME: key_set(KEY.public())}, lambda: now)
    access = Access(TENANTS.values(), tokens=True)
    token = KEY.sign()

    def verify(credential: bytes) -> Any:
        nonlocal checked
        checked += 1
        return read.identify(credential)

    for _ in range(3):
        found = access.known(token, now) or access.identify(token, verify)
        assert found.tenant == "acme"
    assert checked == 1
    now = NOW + 630
    assert access.known(token, now) is None
    with pytest.raises(errors.Unauthorized):
        access.identify(token, verify)
