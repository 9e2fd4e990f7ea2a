"""JSON Web Tokens: their signatures. What their claims mean is ``core.access.claims``' business.

A token names its issuer and its key; only keys that control fetched for that very issuer are
tried, and only with the algorithms that the configuration allows, so that a token cannot choose
how it is checked. PyJWT is imported when the first issuer is configured.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from router.core.access.claims import Issuer, judge, refusal
from router.core.access.tenants import Identity, Tenant

MAX_TOKEN = 16 * 1024
"""Bytes; a token is parsed before anybody has vouched for it."""
MAX_TRIED = 8
"""Keys that one token without a key id is tried with."""

_KINDS = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}


class TokenReader:
    """Checks tokens of the configured issuers.

    Args:
        issuers: with distinct names.
        tenants: by name.
        key_sets: JWK sets by issuer, as fetched; an issuer without one has no good tokens yet.
        wall: Unix seconds.
    """

    def __init__(
        self,
        issuers: tuple[Issuer, ...],
        tenants: Mapping[str, Tenant],
        key_sets: Mapping[str, bytes],
        wall: Callable[[], float],
    ) -> None:
        import jwt

        self._jwt = jwt
        self._decoder = jwt.PyJWS(options={"enforce_minimum_key_length": True})
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._tenants = tenants
        self._keys = {
            name: self._read(key_sets.get(name, b""), issuer.algorithms)
            for name, issuer in self._issuers.items()
        }
        self._wall = wall

    def _read(self, key_set: bytes, allowed: tuple[str, ...]) -> list[Any]:
        """A key for each algorithm that it may be used with; those that fit none are left out."""
        keys: list[Any] = []
        for entry in members(key_set):
            if entry.get("use", "sig") != "sig":
                continue
            algorithms = (entry["alg"],) if "alg" in entry else allowed
            for algorithm in algorithms:
                if algorithm not in allowed or not algorithm.startswith(_kinds(entry)):
                    continue
                try:
                    keys.append(self._jwt.PyJWK(entry, algorithm))
                except (self._jwt.PyJWTError, ValueError, TypeError):
                    continue
        return keys

    def identify(self, token: bytes) -> Identity:
        """Whose token this is.

        Raises:
            Unauthorized: nobody's, or not now.
        """
        if len(token) > MAX_TOKEN:
            raise refusal("token_malformed")
        try:
            header = self._decoder.get_unverified_header(token)
            claims = msgspec.json.decode(_payload(token))
        except (self._jwt.PyJWTError, ValueError):
            raise refusal("token_malformed") from None
        issuer = self._issuers.get(str(claims.get("iss"))) if isinstance(claims, dict) else None
        if issuer is None:
            raise refusal("token_issuer")
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise refusal("token_algorithm")
        self._check(token, issuer, header.get("kid"), algorithm)
        return judge(issuer, claims, self._tenants, self._wall())

    def _check(self, token: bytes, issuer: Issuer, key_id: Any, algorithm: str) -> None:
        # A set of one key often gives it no id, and a token then names none.
        candidates = [
            key
            for key in self._keys[issuer.name]
            if key.algorithm_name == algorithm and (key_id is None or key.key_id == key_id)
        ]
        if not candidates:
            raise refusal("token_key")
        for key in candidates[:MAX_TRIED]:
            try:
                self._decoder.decode_complete(token, key, algorithms=[algorithm])
            except self._jwt.PyJWTError:
                continue
            return
        raise refusal("token_signature")

    def __repr__(self) -> str:
        counts = {name: len(keys) for name, keys in self._keys.items()}
        return f"<TokenReader {counts}>"


def members(key_set: bytes) -> list[dict[str, Any]]:
    """The keys of a JWK set; none of what is none."""
    try:
        value = msgspec.json.decode(key_set)
    except msgspec.DecodeError:
        return []
    keys = value.get("keys") if isinstance(value, dict) else None
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _kinds(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What the names of a key's algorithms begin with; shared secrets fit none."""
    return _KINDS.get(str(entry.get("kty")), ("-",))


def _payload(token: bytes) -> bytes:
    part = token.split(b".")[1]
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
