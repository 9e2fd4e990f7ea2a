"""Several searches at once, each of which waits for one run at a time."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

from router.sim.sizing import Answer, Search
from router.sim.study import Result, perform

T = TypeVar("T")

Told = Callable[[int, int], None]
"""Is told, after each run, how many runs there were and how many searches are over."""


class _Here(Executor):
    """Does at once what it is given."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def conduct(searches: Mapping[str, Search], processes: int, told: Told) -> dict[str, Answer]:
    """The answers, in order of the searches.

    Args:
        processes: runs at a time; with 1 they are run in this process.
    """
    found: dict[str, Answer] = {}
    waited: dict[Future[Result], str] = {}
    runs = 0
    pool = _Here() if processes == 1 else ProcessPoolExecutor(processes, get_context("spawn"))
    with pool:
        for name, search in searches.items():
            _advance(name, search, None, pool, waited, found)
        while waited:
            done, _ = wait(waited, return_when=FIRST_COMPLETED)
            for future in done:
                runs += 1
                name = waited.pop(future)
                _advance(name, searches[name], future.result(), pool, waited, found)
                told(runs, len(found))
    return {name: found[name] for name in searches}


def _advance(
    name: str,
    search: Search,
    result: Result | None,
    pool: Executor,
    waited: dict[Future[Result], str],
    found: dict[str, Answer],
) -> None:
    """Let a search go on to its next run, or to its answer."""
    try:
        run = next(search) if result is None else search.send(result)
    except StopIteration as end:
        found[name] = end.value
    else:
        waited[pool.submit(perform, run)] = name
