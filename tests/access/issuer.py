"""A token issuer for tests: keys, key sets and tokens."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

NAME = "https://issuer.test"
AUDIENCE = "warmpath"
NOW = 1_800_000_000.0


class Key:
    """A signing key and what the world is told of it."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "k1") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any
        if algorithm.startswith("ES"):
            self.private = ec.generate_private_key(ec.SECP256R1())
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = rsa.generate_private_key(65537, 2048)

    def public(self, **more: Any) -> dict[str, Any]:
        maker = jwt.get_algorithm_by_name(self.algorithm)
        entry: dict[str, Any] = json.loads(maker.to_jwk(self.private.public_key()))
        return entry | ({"kid": self.kid} if self.kid else {}) | more

    def sign(self, headers: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """A token that is good for ten minutes from NOW unless ``claims`` say otherwise."""
        payload = {"iss": NAME, "aud": AUDIENCE, "sub": "acme", "exp": NOW + 600} | claims
        payload = {name: value for name, value in payload.items() if value is not None}
        head = ({"kid": self.kid} if self.kid else {}) | (headers or {})
        return jwt.encode(payload, self.private, self.algorithm, head).encode()


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()
