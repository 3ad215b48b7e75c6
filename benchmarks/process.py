"""How the operating system serves a training process: waiting threads, freed memory, its end.

None of it changes a result. Threads and memory can be left as they are by an environment variable;
`results/speed/report.md` says what each gives.
"""

import ctypes
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_start_method, parent_process, set_start_method
from threading import Thread

WAIT = "OMP_WAIT_POLICY"
"""Environment variable of OpenMP: `ACTIVE` lets waiting threads spin."""

MALLOC = "PSAN_MALLOC"
"""Environment variable: `default` leaves the C library's allocator as it is."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def rest_waiting_threads() -> None:
    """Lets threads that wait give up their core; only works before torch is imported.

    By default they spin, and where two processes share the cores a step takes many times as long.
    """
    os.environ.setdefault(WAIT, "PASSIVE")


def keep_freed_memory() -> None:
    """Tells glibc to keep large blocks that were freed, instead of returning them each time.

    A training step frees and asks for the same blocks again and again. By default each goes back
    to the system, and every page of it costs a fault when it is next written. Does nothing where
    the C library is not glibc, or with `PSAN_MALLOC=default`.
    """
    if os.environ.get(MALLOC) == "default" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def spawning() -> Iterator[None]:
    """Processes started in a block are spawned, and so are those that they start.

    They take over the start method of this one, and joblib's is unknown to them.
    """
    before = get_start_method(allow_none=True)
    set_start_method("spawn", force=True)
    try:
        yield
    finally:
        set_start_method(before, force=True)


def end_with_parent() -> None:
    """Ends this process when the one that started it was killed: a new one may go on instead."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def log_to_stderr() -> None:
    """Messages of the suite, bare, on standard error; a worker process needs this anew."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    suite = logging.getLogger("benchmarks")
    if not suite.handlers:
        suite.addHandler(handler)
        suite.setLevel(logging.INFO)
