"""What a mirror has of names, counted one by one."""

from router.core.prefix.holders import mask_of
from router.core.prefix.mirror import CacheMirror
from router.core.prefix.page import Page


def pairs(mirror: CacheMirror) -> int:
    """Of name and endpoint."""
    return sum(mask_of(holder).bit_count() for holder in mirror._holders.by_name.values())


def estimated(page: Page) -> list[int]:
    """Names that are not sure, those in front whose last use is the oldest."""
    return [name for use in page.uses for name in use.names]
