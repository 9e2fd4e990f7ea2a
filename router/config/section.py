"""What every section of the configuration file is made of: its base and its fields' types."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

MAX_WEIGHT = 1_000_000


def doc(
    text: str, *, single: bool = False, commas: bool = False, **constraints: Any
) -> msgspec.Meta:
    """A field's description.

    Args:
        single: where a list is expected, one item may stand without brackets.
        commas: such an item may be several, with commas between them.
        constraints: as of ``msgspec.Meta``.
    """
    extra = {"single": True, "commas": commas} if single else None
    return msgspec.Meta(description=text, extra=extra, **constraints)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections of the file.

    ``shorthand`` names the field that a plain value stands for. ``planned`` are fields that
    this version refuses by name, each with what to know instead.
    """

    shorthand: ClassVar[str | None] = None
    planned: ClassVar[Mapping[str, str]] = {}


Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=MAX_WEIGHT)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
Path = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]{0,1023}$")]
