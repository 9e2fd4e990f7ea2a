"""Quantities as operators write them: ``250ms``, ``64KiB``, ``10%``, ``10.0.0.1:8000``.

Each is a small type whose ``parse`` reads the text and whose ``str`` writes it back, so that a
dumped configuration can be read again. A number without a unit is refused: 30 is not obviously
seconds.
"""

import ipaddress
import re
from typing import ClassVar, Self

from router.core.duration import Duration, Interval

__all__ = [
    "QUANTITIES",
    "Address",
    "Amount",
    "Duration",
    "Interval",
    "Percent",
    "Quantity",
    "Rate",
    "Secret",
    "Size",
]

MAX_SIZE = 1 << 40

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?(B|KiB|MiB|GiB|KB|MB|GB)", re.ASCII)
_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)

MAX_AMOUNT = 10**12
_AMOUNT = re.compile(r"(\d{1,13}(?:\.\d{1,6})?)(k|M|G)?", re.ASCII)
_THOUSANDS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?", re.ASCII)
_NUMERIC = re.compile(r"(?:.*\.)?[0-9]+", re.ASCII)
"""No domain ends in a number: what looks like this is an IPv4 address, well written or not."""
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.-]{1,16})?", re.ASCII)


class Size(int):
    """Bytes. Written with B, KiB, MiB, GiB (powers of 1024) or KB, MB, GB (powers of 1000)."""

    pattern: ClassVar[str] = r"^(0|\d+(\.\d+)?\s?(B|KiB|MiB|GiB|KB|MB|GB))$"
    example: ClassVar[str] = "512B, 64KiB or 10MiB"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        if text == "0":
            return cls(0)
        found = _SIZE.fullmatch(text)
        if found is None:
            raise ValueError(f"expected a size such as {cls.example}, got {text!r}")
        size = round(float(found[1]) * _BYTES[found[2]])
        if size > MAX_SIZE:
            raise ValueError(f"a size is at most 1024GiB, got {text!r}")
        return cls(size)

    def __str__(self) -> str:
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _BYTES[unit] == 0:
                return f"{int(self) // _BYTES[unit]}{unit}"
        return f"{int(self)}B"


class Percent(float):
    """0 to 100, written ``10%`` or ``2.5%``."""

    pattern: ClassVar[str] = r"^\d{1,3}(\.\d+)?%$"
    example: ClassVar[str] = "10% or 2.5%"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        found = _PERCENT.fullmatch(text)
        if found is None:
            raise ValueError(f"expected a percentage such as {cls.example}, got {text!r}")
        if (value := float(found[1])) > 100:
            raise ValueError(f"a percentage is at most 100%, got {text!r}")
        return cls(value)

    def __str__(self) -> str:
        return f"{float(self):.6f}".rstrip("0").rstrip(".") + "%"


class Amount(int):
    """A number of requests or tokens, at least 1; k, M and G stand for thousands."""

    pattern: ClassVar[str] = r"^\d+(\.\d+)?[kMG]?$"
    example: ClassVar[str] = "100, 200k or 1.5M"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        found = _AMOUNT.fullmatch(text)
        if found is None:
            raise ValueError(f"expected a number such as {cls.example}, got {text!r}")
        amount = round(float(found[1]) * _THOUSANDS[found[2] or ""], 6)
        if not 1 <= amount <= MAX_AMOUNT or amount != int(amount):
            raise ValueError(f"expected a whole number from 1 to 1000G, got {text!r}")
        return cls(amount)

    def __str__(self) -> str:
        for unit in ("G", "M", "k"):
            if int(self) % _THOUSANDS[unit] == 0:
                return f"{int(self) // _THOUSANDS[unit]}{unit}"
        return f"{int(self)}"


class Rate(str):
    """So many in a time: ``100/min``, ``200k/h``."""

    __slots__ = ()
    pattern: ClassVar[str] = r"^\d+(\.\d+)?[kMG]?/(s|min|h|d)$"
    example: ClassVar[str] = "10/s, 100/min, 200k/h or 1M/d"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        number, slash, period = text.partition("/")
        if not slash or period not in _PERIODS:
            raise ValueError(f"expected a rate such as {cls.example}, got {text!r}")
        return cls(f"{Amount.parse(number)}/{period}")

    @property
    def amount(self) -> int:
        return int(Amount.parse(self.partition("/")[0]))

    @property
    def period(self) -> float:
        """Seconds."""
        return _PERIODS[self.partition("/")[2]]


class Address(str):
    """``host:port``; an IPv6 host stands in brackets. Port 0 asks the system for a free one."""

    __slots__ = ()
    pattern: ClassVar[str] = r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*):\d{1,5}$"
    example: ClassVar[str] = "10.0.0.1:8000 or [::1]:8000"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError saying what is wrong."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else None
        if "://" in text:
            raise ValueError(f"an address is host:port without a scheme, got {text!r}")
        if not colon or not (
            _IPV6.fullmatch(bare) and ":" in bare if bare is not None else _HOST.fullmatch(host)
        ):
            raise ValueError(f"expected host:port such as {cls.example}, got {text!r}")
        if bare is None and _NUMERIC.fullmatch(host):
            try:
                ipaddress.IPv4Address(host)
            except ValueError as error:
                raise ValueError(f"not an IPv4 address: {error}, in {text!r}") from None
        if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
            raise ValueError(f"a port is a number up to 65535, got {text!r}")
        return cls(f"{host}:{int(port)}")

    @property
    def host(self) -> str:
        """Without brackets."""
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


class Secret:
    """Text that shows itself to nobody who does not call :meth:`reveal`."""

    __slots__ = ("_text",)

    pattern: ClassVar[str] = r"^(file:/.+|.*\$\{.+\}.*)$"
    example: ClassVar[str] = "file:/run/secrets/token or ${TOKEN}"

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError if it is empty or would not fit in a header."""
        if not text or len(text) > 4096 or not text.isascii() or not text.isprintable():
            raise ValueError("a secret is 1 to 4096 printable ASCII characters")
        return cls(text)

    def reveal(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "<Secret>"

    __str__ = __repr__


Quantity = Duration | Size | Percent | Amount | Rate | Address | Secret
QUANTITIES: tuple[type[Quantity], ...] = (
    *(Duration, Interval, Size, Percent, Amount, Rate, Address, Secret),
)
