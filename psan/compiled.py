"""What PSAN's compiled loops share: options and random numbers.

On a CPU, torch works on a whole batch with one operation after the other, each of which reads and
writes memory. The loops in `psan.temporal_kernels`, `psan.spatial_kernels` and `psan.dropout` do a
chain of operations while its numbers are in a core's cache; `psan.tile` multiplies matrices there,
and `psan.vectors` writes down the instructions. Numba compiles them at their first call and keeps
the result beside their files, or in the user's cache, for the next process.

Each loop does a part of the work, so that threads can share it (`psan.threads`). Arrays are float32
and C-contiguous. Random numbers are a hash of a seed and of an entry's place, so that a backward
pass makes the same ones again and nothing has to be kept.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from numba import njit

# Numba looks at the date of a loop's own file only; loops are made with code of the others too.
_newest = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
for _index in Path(__file__).parent.glob("__pycache__/*.nbi"):
    with suppress(OSError):
        if _index.stat().st_mtime < _newest:
            _index.unlink()

f32, u32 = np.float32, np.uint32

_options: dict[str, Any] = {
    # sums may be taken in any order, as in a matrix product; NaN and infinity keep their meaning
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
    # a division by 0 is infinite; looking out for it would cost a loop its vector instructions
    "error_model": "numpy",
}
# none of them is called from C, and wrappers for that take time to compile
compiled = njit(**(_options | {"nogil": True, "cache": True, "no_cfunc_wrapper": True}))
inlined = njit(inline="always", **_options)

BLOCK = 1024
"""Entries that are worked on together: some rows of that length stay in a core's cache."""

RANDOM_VALUES = 2**32
"""Random numbers are integers from 0 to below this."""


@inlined
@no_type_check
def _hash(h):
    """Mixes the bits of a 32-bit number (Wellons, "hash-prospector", 2018, lowest bias)."""
    h = u32(u32(h ^ (h >> u32(16))) * u32(0x21F0AAAD))
    h = u32(u32(h ^ (h >> u32(15))) * u32(0x735A2D97))
    return u32(h ^ (h >> u32(15)))


@inlined
@no_type_check
def random(seed, place):
    """A random number for an entry of the row that has this seed."""
    return _hash(u32(seed + u32(place) * u32(0x9E3779B9)))


@inlined
@no_type_check
def row_seed(seed, row):
    """The seed of a row's random numbers."""
    return _hash(u32(u32(row) ^ seed))
