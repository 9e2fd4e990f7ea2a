"""Noticing that files changed, by asking the file system each second.

Polling instead of notifications: it costs one system call per file and second, and works the same
for renames, edits in place, network file systems and the symbolic links of ConfigMaps, where the
watched name itself never changes. Modification times can be set by anyone, so the inode and the
time of its own last change, which cannot, are compared too. A file that is being written is left
alone until it has stood still for a moment.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from router.config.findings import ConfigError

SETTLE = 0.05
"""Seconds for which a file must not change before it is read."""
SETTLE_ROUNDS = 20

Fingerprint = tuple[tuple[str, int, int, int, int, int], ...]
"""By file: name, device, inode, modification and change time in ns, size."""


def fingerprint(files: Sequence[Path]) -> Fingerprint:
    """What changes when one of the files does, or when there are others.

    Raises:
        OSError: one of them cannot be looked at.
    """
    return tuple(
        (str(file), s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size)
        for file in files
        for s in (file.stat(),)
    )


class Changes:
    """Tells when the files differ from those that were marked.

    Args:
        files: lists them; raises OSError or ConfigError where there are none.
    """

    def __init__(self, files: Callable[[], Sequence[Path]]) -> None:
        self._files = files
        self.marked: Fingerprint | None = None

    def look(self) -> Fingerprint | None:
        """The present fingerprint; None while a file is missing. Touches the disk."""
        try:
            return fingerprint(self._files())
        except (OSError, ConfigError):
            return None

    def mark(self) -> None:
        """Take the present files for known. To be called before they are read, not after."""
        self.marked = self.look()

    async def settled(self) -> bool:
        """Whether there are files that differ from the marked ones and stand still.

        Files that are missing, as in the middle of a replacement, are waited for.
        """
        seen = await asyncio.to_thread(self.look)
        if seen is None or seen == self.marked:
            return False
        for _ in range(SETTLE_ROUNDS):
            await asyncio.sleep(SETTLE)
            again = await asyncio.to_thread(self.look)
            if again == seen:
                return True
            seen = again
        return seen is not None
