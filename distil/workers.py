"""Work spread over processes, with results that depend neither on their number nor on which ends first."""

import itertools
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Chunk, Result = TypeVar("Chunk"), TypeVar("Result")
AHEAD = 4  # chunks a worker that are under way at once: bounds the results that wait to be used


def available() -> int:
    """Processes that pay: at most eight, and on fewer than four cores this one alone, since passing results on costs as much."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores) if cores >= 4 else 1


def spread(
    function: Callable[[Chunk], Result],
    chunks: Iterable[Chunk],
    *,
    workers: int,
    setup: Callable[..., None],
    arguments: tuple[Any, ...],
) -> Iterator[Result]:
    """``function`` of each chunk, in order.

    Args:
        function, setup: of a module, so that a new process can import them; ``setup(*arguments)`` runs once in each process.
        workers: processes; with 1 all is done in this one.
    """
    if workers == 1:
        setup(*arguments)
        yield from map(function, chunks)
        return
    arguments = (os.getpid(), setup, arguments)
    context = multiprocessing.get_context("spawn")  # a forked process could hang on a lock of a library's thread
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=arguments) as pool:
        chunks = iter(chunks)
        under_way = deque(pool.submit(function, chunk) for chunk in itertools.islice(chunks, AHEAD * workers))
        while under_way:
            done = under_way.popleft().result()
            under_way.extend(pool.submit(function, chunk) for chunk in itertools.islice(chunks, 1))
            yield done


def _start(parent: int, setup: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Set a worker up, and have it end when the process that started it is killed: it would wait for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    setup(*arguments)
