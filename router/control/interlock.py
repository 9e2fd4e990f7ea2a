"""One lock for the processes of a machine, which lives in memory that they share.

A holder that dies, by whatever signal, must not stop the others. Linux has two locks like that: a
POSIX mutex made robust, which whoever comes next is told about and mends, and a lock on a file,
which the kernel takes away. The mutex costs no system call where nobody else holds it: 0.3 us for
lock and unlock, where the file's lock costs 1.4 (an EPYC, from Python). Elsewhere mutexes are not
robust, so there the file is locked.
"""

import ctypes
import errno
import mmap
import os
import sys
from abc import abstractmethod
from fcntl import LOCK_EX, LOCK_UN, lockf
from typing import Any, Final

SIZE: Final = 64
"""Bytes at the start of the file that a lock needs: a mutex has 40 or 48 of them, a cache line is
left to it alone."""

_BUSY: Final = errno.EBUSY
# Of glibc and of musl alike.
_SHARED: Final = 1
_ROBUST: Final = 1
_ERRORCHECK: Final = 2
_ATTRIBUTES: Final = 64


class Interlock:
    """Held by one process at a time. Not to be taken twice, nor by a thread for another."""

    __slots__ = ()

    @abstractmethod
    def acquire(self) -> None:
        """Waits for its holder."""

    @abstractmethod
    def release(self) -> None: ...


class FileLock(Interlock):
    """A lock on the first bytes of a file."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd: Final = fd

    def acquire(self) -> None:
        lockf(self._fd, LOCK_EX, SIZE)

    def release(self) -> None:
        lockf(self._fd, LOCK_UN, SIZE)


class RobustMutex(Interlock):
    """A mutex at the start of ``memory``, where ``prepare`` has made one."""

    __slots__ = ("_consistent", "_lock", "_memory", "_mutex", "_try", "_unlock")

    def __init__(self, memory: mmap.mmap) -> None:
        # What never waits is called without letting other threads in, which costs more than it.
        quick, slow = ctypes.PyDLL(None), ctypes.CDLL(None)
        self._memory: Final[Any] = ctypes.c_char.from_buffer(memory)  # keeps it mapped
        self._mutex: Final[Any] = ctypes.c_void_p(ctypes.addressof(self._memory))
        self._try: Final[Any] = quick.pthread_mutex_trylock
        self._lock: Final[Any] = slow.pthread_mutex_lock
        self._unlock: Final[Any] = quick.pthread_mutex_unlock
        self._consistent: Final[Any] = quick.pthread_mutex_consistent

    def acquire(self) -> None:
        code: int = self._try(self._mutex)
        if code == _BUSY:
            code = self._lock(self._mutex)
        if code:
            self._mend(code)

    def release(self) -> None:
        self._unlock(self._mutex)

    def _mend(self, code: int) -> None:
        """Take it over from a holder that died.

        Raises:
            OSError: it was not to be had.
        """
        if code == errno.EOWNERDEAD:
            # It is ours, and what it guards may be half written, as after any kill.
            code = self._consistent(self._mutex)
        if code:
            raise OSError(code, f"the board's lock: {os.strerror(code)}")


def prepare(fd: int) -> None:
    """Make the lock of a new, zeroed file, before any process uses it.

    Raises:
        OSError: the machine has no such lock.
    """
    if not _robust():
        return
    library = ctypes.CDLL(None)
    attributes = ctypes.create_string_buffer(_ATTRIBUTES)
    with mmap.mmap(fd, SIZE) as memory:
        mutex = ctypes.c_char.from_buffer(memory)
        code: int = (
            library.pthread_mutexattr_init(attributes)
            or library.pthread_mutexattr_setpshared(attributes, _SHARED)
            or library.pthread_mutexattr_setrobust(attributes, _ROBUST)
            # Taken twice by one thread it is an error, not a process that hangs.
            or library.pthread_mutexattr_settype(attributes, _ERRORCHECK)
            or library.pthread_mutex_init(ctypes.byref(mutex), attributes)
        )
        del mutex  # or the map could not be closed
    if code:
        raise OSError(code, f"cannot make the board's lock: {os.strerror(code)}")


def interlock(fd: int, memory: mmap.mmap) -> Interlock:
    """The lock of a file that ``prepare`` was given, and of its mapping."""
    return RobustMutex(memory) if _robust() else FileLock(fd)


def _robust() -> bool:
    return sys.platform == "linux"
