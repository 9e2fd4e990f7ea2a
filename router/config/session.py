"""Session affinity in the configuration file: one section per way of knowing a session."""

from typing import Annotated, Literal

import msgspec

from router.config.section import Section, doc
from router.config.units import Duration, Interval
from router.core.session.policy import Session

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}"
Token = Annotated[str, msgspec.Meta(pattern=f"^{_TOKEN}$")]
CookiePath = Annotated[str, msgspec.Meta(pattern=r"^/[!-:<-~]{0,255}$")]
Domain = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.-]{1,253}$")]

_USED = "A session that nobody used for so long is forgotten."
THREE_HOURS = Interval(3 * 3600)
"""Kubernetes' default for ClientIP affinity."""


class SessionSpec(Section, frozen=True, kw_only=True, tag_field="type"):
    """What all ways have in common."""


class CookieSession(SessionSpec, frozen=True, kw_only=True, tag="cookie"):
    """A cookie that the router issues and that names the endpoint, but not its address."""

    name: Annotated[
        Token, doc("Where one client uses several clusters, each needs a name of its own.")
    ] = "warmpath-session"
    ttl: Annotated[Duration, doc("The cookie's Max-Age; 0: it ends with the client's session.")] = (
        Duration(0)
    )
    path: Annotated[CookiePath, doc("Requests that the client sends it with.")] = "/"
    domain: Annotated[Domain | None, doc("The host that set it alone, if not given.")] = None
    http_only: Annotated[bool, doc("Scripts cannot read it.")] = True
    secure: Annotated[bool, doc("It is sent over TLS only.")] = False
    same_site: Annotated[
        Literal["strict", "lax", "none"] | None, doc("The browser's own rule, if not given.")
    ] = None


class HeaderSession(SessionSpec, frozen=True, kw_only=True, tag="header"):
    """Requests with the same value of a header are one session."""

    name: Annotated[Token, doc("The header.")]
    ttl: Annotated[Interval, doc(_USED)] = THREE_HOURS


class UserSession(SessionSpec, frozen=True, kw_only=True, tag="user"):
    """Requests with the same `user` in their body are one session."""

    ttl: Annotated[Interval, doc(_USED)] = THREE_HOURS


class SourceAddressSession(SessionSpec, frozen=True, kw_only=True, tag="source_address"):
    """Requests from one address are one session, as with Kubernetes' ClientIP affinity."""

    ttl: Annotated[Interval, doc(_USED)] = THREE_HOURS


SESSIONS = (CookieSession, HeaderSession, UserSession, SourceAddressSession)
"""All ways that a configuration may name."""


def session(spec: SessionSpec) -> Session:
    """The core's form."""
    match spec:
        case CookieSession():
            return Session(
                kind="cookie", name=spec.name, ttl=float(spec.ttl), attributes=_attributes(spec)
            )
        case HeaderSession():
            return Session(kind="header", name=spec.name, ttl=float(spec.ttl))
        case UserSession():
            return Session(kind="user", ttl=float(spec.ttl))
        case SourceAddressSession():
            return Session(kind="source_address", ttl=float(spec.ttl))
    raise AssertionError(f"not in SESSIONS: {spec!r}")


def _attributes(spec: CookieSession) -> str:
    parts = [f"Max-Age={max(1, round(spec.ttl))}"] if spec.ttl else []
    parts.append(f"Path={spec.path}")
    if spec.domain is not None:
        parts.append(f"Domain={spec.domain}")
    if spec.http_only:
        parts.append("HttpOnly")
    if spec.secure:
        parts.append("Secure")
    if spec.same_site is not None:
        parts.append(f"SameSite={spec.same_site.capitalize()}")
    return "".join(f"; {part}" for part in parts)
