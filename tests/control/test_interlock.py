"""The lock of the board: one holder at a time, and none that takes it to the grave."""

import errno
import mmap
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from router.control.interlock import SIZE, FileLock, Interlock, RobustMutex, interlock, prepare

Make = Callable[[], Interlock]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mutexes are robust on Linux")


@pytest.fixture(params=[pytest.param("mutex", marks=LINUX), "file"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """What a process does to get at the lock of a file."""
    with tempfile.TemporaryFile() as file:
        fd = file.fileno()
        os.ftruncate(fd, SIZE)
        prepare(fd)
        if request.param == "file":
            yield lambda: FileLock(fd)
        else:
            yield lambda: RobustMutex(mmap.mmap(fd, SIZE))


def in_child(work: Callable[[], None]) -> int:
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    return child


def test_processes_hold_it_one_at_a_time(make: Make) -> None:
    """Each adds to a number in two steps, which no two may do at once."""
    memory = mmap.mmap(-1, 8)
    number = memoryview(memory).cast("q")

    def count() -> None:
        lock = make()
        for _ in range(2000):
            lock.acquire()
            seen = number[0]
            if seen % 50 == 0:
                time.sleep(0)
            number[0] = seen + 1
            lock.release()

    children = [in_child(count) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert number[0] == 8000


def test_a_holder_that_is_killed_does_not_stop_the_others(make: Make) -> None:
    lock = make()
    for _ in range(3):
        read, write = os.pipe()

        def hold(write: int = write) -> None:
            lock = make()
            lock.acquire()
            os.write(write, b"!")
            time.sleep(60)
            lock.release()

        def wait() -> None:
            lock = make()
            lock.acquire()
            lock.release()

        child = in_child(hold)
        os.read(read, 1)
        # One who waits already is let in, as is one who comes later.
        waiting = in_child(wait)
        time.sleep(0.05)
        assert os.waitpid(waiting, os.WNOHANG) == (0, 0), "it is held"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert os.waitpid(waiting, 0)[1] == 0, "whose end frees it again"
        lock.acquire()
        lock.release()
        os.close(read)
        os.close(write)


@LINUX
def test_threads_that_wait_let_the_holder_run() -> None:
    fd = os.memfd_create("lock")
    os.ftruncate(fd, SIZE)
    prepare(fd)
    lock = interlock(fd, mmap.mmap(fd, SIZE))
    os.close(fd)
    order: list[str] = []

    def second() -> None:
        lock.acquire()
        order.append("second")
        lock.release()

    lock.acquire()
    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.05)
    order.append("first")
    lock.release()
    thread.join(10)
    assert order == ["first", "second"]


@LINUX
def test_taken_twice_it_is_an_error_and_no_process_hangs() -> None:
    fd = os.memfd_create("lock")
    os.ftruncate(fd, SIZE)
    prepare(fd)
    lock = RobustMutex(mmap.mmap(fd, SIZE))
    os.close(fd)
    lock.acquire()
    with pytest.raises(OSError, match="the board's lock") as caught:
        lock.acquire()
    assert caught.value.errno == errno.EDEADLK
    lock.release()
