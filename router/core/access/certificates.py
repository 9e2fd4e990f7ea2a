"""The names in a client's certificate, of which tenants are known."""

from collections.abc import Mapping
from typing import Any


def names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """A verified certificate's names, as ``ssl.SSLSocket.getpeercert`` lays them out.

    The subject's common name counts only where there are no alternative names (RFC 6125 6.4.4).
    """
    alternative = tuple(
        str(value)
        for kind, value in certificate.get("subjectAltName", ())
        if kind in ("DNS", "URI", "email")
    )
    if alternative:
        return alternative
    return tuple(
        str(value)
        for part in certificate.get("subject", ())
        for name, value in part
        if name == "commonName"
    )
