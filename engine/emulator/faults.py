"""Faults on purpose: what can go wrong with an engine, when, and for how many requests.

A fault is written `kind[=argument][;name=value]...` on the command line and in the request header
`x-emulator-fault`, or as a JSON object for `POST /emulator/faults`.  The argument's meaning
depends on the kind:

    status=503            answer with this status (retry_after seconds, if given)
    hang                  accept the request and never answer
    hang_after_head       send the response head, then nothing
    reset_before_head     TCP reset instead of an answer
    fin_before_head       orderly close instead of an answer
    garbage_head          bytes that are not HTTP
    reset_mid=3           TCP reset after 3 tokens (half of a body that is not streamed)
    fin_mid=3             orderly close there: a truncated message
    bad_chunk=3           a broken chunk header there
    stall=3               pause after 3 tokens for `delay` seconds (default: for ever)
    slow=5                everything takes 5 times as long (`delay`: plus seconds per token)
    unhealthy             /health and /ping answer 503
    refuse=2              close the listening socket for 2 seconds
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from random import Random
from typing import Any, Final, Self

MAX_FAULTS: Final = 64


class Kind(Enum):
    """What goes wrong."""

    STATUS = "status"
    HANG = "hang"
    HANG_AFTER_HEAD = "hang_after_head"
    RESET_BEFORE_HEAD = "reset_before_head"
    FIN_BEFORE_HEAD = "fin_before_head"
    GARBAGE_HEAD = "garbage_head"
    RESET_MID = "reset_mid"
    FIN_MID = "fin_mid"
    BAD_CHUNK = "bad_chunk"
    STALL = "stall"
    SLOW = "slow"
    UNHEALTHY = "unhealthy"
    REFUSE = "refuse"


ARGUMENT: Final[Mapping[Kind, str]] = {
    Kind.STATUS: "code",
    Kind.RESET_MID: "after_chunks",
    Kind.FIN_MID: "after_chunks",
    Kind.BAD_CHUNK: "after_chunks",
    Kind.STALL: "after_chunks",
    Kind.SLOW: "factor",
    Kind.REFUSE: "delay",
}
BEFORE_HEAD: Final = frozenset(
    {
        *(Kind.STATUS, Kind.HANG, Kind.HANG_AFTER_HEAD, Kind.RESET_BEFORE_HEAD),
        *(Kind.FIN_BEFORE_HEAD, Kind.GARBAGE_HEAD),
    }
)
MIDWAY: Final = frozenset({Kind.RESET_MID, Kind.FIN_MID, Kind.BAD_CHUNK})
# These concern the whole engine, not one request.
STANDING: Final = frozenset({Kind.UNHEALTHY, Kind.REFUSE})


class FaultError(ValueError):
    """A fault description that makes no sense; `field` names the offending part."""

    def __init__(self, message: str, field_name: str) -> None:
        super().__init__(message)
        self.field = field_name


@dataclass(slots=True)
class Fault:
    """One kind of trouble and whom it hits.

    Args:
        kind: what goes wrong.
        count: hit this many requests, then be gone; None: all until cleared.
        rate: probability that a request is hit, 0 to 1.
        path: hit only this path; empty: every inference path.
        code: status code to answer with (100 to 599).
        retry_after: seconds for the Retry-After header; None: no such header.
        after_chunks: tokens before trouble starts.
        delay: seconds; waiting time before a fault ahead of the head, otherwise see the kinds.
        factor: slowness, at least 1.
        hits: how many requests were hit so far.
    """

    kind: Kind
    count: int | None = None
    rate: float = 1.0
    path: str = ""
    code: int = 503
    retry_after: float | None = None
    after_chunks: int = 1
    delay: float | None = None
    factor: float = 2.0
    hits: int = field(default=0)

    def __post_init__(self) -> None:
        limits: list[tuple[str, bool, str]] = [
            ("count", self.count is None or self.count >= 1, "at least 1"),
            ("rate", 0 <= self.rate <= 1, "between 0 and 1"),
            ("code", 200 <= self.code <= 599, "between 200 and 599"),
            ("after_chunks", self.after_chunks >= 1, "at least 1"),
            ("delay", self.delay is None or self.delay >= 0, "at least 0 seconds"),
            ("retry_after", self.retry_after is None or self.retry_after >= 0, "at least 0"),
            ("factor", self.factor >= 1, "at least 1"),
        ]
        for name, good, limit in limits:
            if not good:
                raise FaultError(f"{name} must be {limit}, got {getattr(self, name)!r}", name)
        if self.kind is Kind.REFUSE and not self.delay:
            raise FaultError("refuse needs delay: seconds to stay closed", "delay")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> Self:
        """Read a decoded JSON object; raises FaultError naming the field."""
        known = {f.name for f in fields(cls)} - {"hits"}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise FaultError(f"unknown field {name!r}; known: {', '.join(sorted(known))}", name)
            values[name] = _convert(name, value)
        if "kind" not in values:
            raise FaultError("kind is required", "kind")
        return cls(**values)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `kind[=argument][;name=value]...`; raises FaultError naming the field."""
        head, *options = text.split(";")
        name, equals, argument = head.strip().partition("=")
        given: dict[str, str] = {"kind": name.strip()}
        kind = _convert("kind", given["kind"])
        if equals:
            if kind not in ARGUMENT:
                raise FaultError(f"{name} takes no argument, got {argument!r}", "kind")
            given[ARGUMENT[kind]] = argument.strip()
        for option in options:
            key, equals, value = option.partition("=")
            if not equals:
                raise FaultError(f"expected name=value, got {option!r}", key.strip())
            given[key.strip()] = value.strip()
        return cls.from_mapping(given)

    def to_mapping(self) -> dict[str, Any]:
        """As JSON-ready values, None left out."""
        shown = {name: value for name, value in asdict(self).items() if value is not None}
        return {**shown, "kind": self.kind.value}


def _convert(name: str, value: Any) -> Any:
    try:
        if name == "kind":
            return value if isinstance(value, Kind) else Kind(value)
        if name == "path":
            return str(value)
        if value is None or isinstance(value, bool):
            raise ValueError
        if name in ("count", "code", "after_chunks"):
            whole = int(value)
            if whole != value and not isinstance(value, str):
                raise ValueError
            return whole
        return float(value)
    except (TypeError, ValueError, OverflowError):
        expected = ", ".join(k.value for k in Kind) if name == "kind" else "a number"
        raise FaultError(f"{name}: expected {expected}, got {value!r}", name) from None


class FaultBoard:
    """The faults in force.  The first one that matches a request hits it."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)
        self.active: list[Fault] = []

    def add(self, fault: Fault | str) -> Fault:
        """Put a fault (or its text form) in force; at most `MAX_FAULTS` at once."""
        if len(self.active) >= MAX_FAULTS:
            raise FaultError(f"at most {MAX_FAULTS} faults can be in force", "kind")
        if isinstance(fault, str):
            fault = Fault.parse(fault)
        self.active.append(fault)
        return fault

    def clear(self) -> None:
        """Back to normal."""
        self.active.clear()

    def pick(self, path: str) -> Fault | None:
        """The fault that hits the request now arriving at `path`, if any."""
        for fault in self.active:
            if fault.kind in STANDING or (fault.path and fault.path != path):
                continue
            if self._spend(fault):
                return fault
        return None

    def healthy(self) -> bool:
        """What a health check arriving now is to be told."""
        return not any(f.kind is Kind.UNHEALTHY and self._spend(f) for f in self.active)

    def _spend(self, fault: Fault) -> bool:
        if fault.rate < 1 and self._random.random() >= fault.rate:
            return False
        fault.hits += 1
        if fault.count is not None and fault.hits >= fault.count:
            # A new list: `healthy` and `pick` may be walking the old one.
            self.active = [f for f in self.active if f is not fault]
        return True

    def __repr__(self) -> str:
        return f"FaultBoard({[f.kind.value for f in self.active]})"
