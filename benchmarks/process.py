"""How the operating system serves a training process: waiting threads and freed memory.

All of it is set here, none of it changes a result, and each part can be switched off by an
environment variable. `results/speed/report.md` says what each gives.
"""

import ctypes
import os
import platform

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
