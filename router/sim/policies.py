"""Policies by name: any balancer that a configuration can name, and the oracle."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.config.clusters import AnyBalancer
from router.core.balancers import REGISTRY
from router.sim.scenario import Policy

ORACLE: Final = "oracle"

NAMES: Final[tuple[str, ...]] = (
    *(str(balancer.Spec.__struct_config__.tag) for balancer in REGISTRY),
    ORACLE,
)


class PolicyError(ValueError):
    """There is no such policy; the message says why."""


def parse(text: str) -> Policy:
    """A policy as it is written on a command line: ``NAME`` or ``NAME:FIELD=VALUE,...``.

    Raises:
        PolicyError: there is none.
    """
    name, _, rest = text.partition(":")
    if name == ORACLE:
        if rest:
            raise PolicyError(f"{ORACLE} takes no fields")
        return Policy(text, None)
    if name not in NAMES:
        raise PolicyError(f"there is no policy {name!r}: it is one of {', '.join(NAMES)}")
    fields: dict[str, Any] = {"type": name}
    for pair in filter(None, rest.split(",")):
        field, equals, value = pair.partition("=")
        if not equals:
            raise PolicyError(f"{text!r}: expected FIELD=VALUE, not {pair!r}")
        fields[field.strip()] = _plain(value.strip())
    return Policy(text, _spec(text, fields))


def _plain(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _quantity(kind: type, value: Any) -> Any:
    """Durations and the like, in the configuration's words."""
    return kind.parse(value if isinstance(value, str) else f"{value}s")  # type: ignore[attr-defined]


def _spec(text: str, fields: Mapping[str, Any]) -> Any:
    known = {
        field.name
        for balancer in REGISTRY
        if balancer.Spec.__struct_config__.tag == fields["type"]
        for field in msgspec.structs.fields(balancer.Spec)
    }
    if unknown := sorted(set(fields) - known - {"type"}):
        raise PolicyError(
            f"{text!r}: no field {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}"
        )
    try:
        return msgspec.convert(fields, AnyBalancer, dec_hook=_quantity)
    except msgspec.ValidationError as error:
        raise PolicyError(f"{text!r}: {error}") from None
