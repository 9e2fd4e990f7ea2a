"""Which blocks an answer's prompt has, in the head of the answer: read, and kept from the client.

``x-kv-prefix-tip: NAME:BLOCKS`` names the prompt's last full block in 16 hexadecimal digits, as
the engine's KV events do; ``-:0`` where there is none. A list of prompts has a list of tips, of
which the first counts, as the first prompt does. The line is taken out before the head is looked
up among those that were checked before: with a tip in them no two would be alike.
"""

import re
from typing import Final

from router.core.engine_cache.news import Tip

_NAME: Final = b"\r\nx-kv-prefix-tip:"
_LINE: Final = re.compile(rb"\r\nx-kv-prefix-tip:([\x20-\x7e\t]*)(?=\r\n)", re.IGNORECASE)
_TIP: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{16}):([1-9][0-9]{0,8})[ \t]*(?:,|$)")


def heard(raw: bytes) -> tuple[bytes, Tip | None]:
    """A response head without the line, and the tip; None if there is none, or no good one.

    Args:
        raw: the head with its empty line.
    """
    found = _LINE.search(raw) if _NAME in raw.lower() else None
    if found is None:
        return raw, None
    tip = _TIP.match(found[1])
    rest = raw[: found.start()] + raw[found.end() :]
    return rest, None if tip is None else (int(tip[1], 16), int(tip[2]))
