"""Shares the work of a kernel among as many threads as torch has."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process; a forked one makes its own."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="psan")


def shares(count: int) -> list[tuple[int, int]]:
    """Contiguous parts of `range(count)`, one for each thread: first and after the last."""
    parts = max(1, min(torch.get_num_threads(), count))
    return [(count * k // parts, count * (k + 1) // parts) for k in range(parts)]


def in_threads(parts: Sequence[tuple[int, int]], work: Callable[[int, int, int], None]) -> None:
    """Calls `work(k, first, last)` for each part `k` at once; it should free the GIL.

    Not numba's own threads: they share OpenMP with torch, and change how many threads torch has.
    """
    pending = [_pool(os.getpid()).submit(work, k, *parts[k]) for k in range(1, len(parts))]
    try:
        work(0, *parts[0])
    finally:
        wait(pending)  # they write to the caller's arrays
    for each in pending:
        each.result()
