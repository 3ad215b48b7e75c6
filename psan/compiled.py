"""What PSAN's compiled loops share: options, an exponential and random numbers.

On a CPU, torch makes a softmax with bias and dropout, or a gate, as a chain of operations that each
read and write memory. The loops in `psan.attention_kernels`, `psan.gate_kernels` and `psan.dropout`
do all of a chain while a number is in a register. Numba compiles them at their first call and keeps
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
from numba.core import types
from numba.extending import intrinsic

# Numba looks at the date of a loop's own file only; loops are made with code of the others too.
_newest = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
for _index in Path(__file__).parent.glob("__pycache__/*.nbi"):
    with suppress(OSError):
        if _index.stat().st_mtime < _newest:
            _index.unlink()

f32, i32, u32 = np.float32, np.int32, np.uint32

_options: dict[str, Any] = {
    # sums may be taken in any order, as in a matrix product; NaN and infinity keep their meaning
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
    # a division by 0 is infinite; looking out for it would cost a loop its vector instructions
    "error_model": "numpy",
}
compiled = njit(nogil=True, cache=True, **_options)
inlined = njit(inline="always", **_options)

BLOCK = 1024
"""Entries that are worked on together: some rows of that length stay in a core's cache."""

RANDOM_VALUES = 2**32
"""Random numbers are integers from 0 to below this."""


@intrinsic
@no_type_check
def _as_float(context, bits):  # the same 32 bits
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@inlined
@no_type_check
def exp(x):
    """`exp(x)` for `x` up to 0, or a rounding error more, within 2 units in the last place.

    The polynomial of the Cephes library (Moshier, expf). Below -87 it stays exp(-87) = 1.6e-38.
    """
    x = f32(-87.0) if x < f32(-87.0) else x  # NaN stays NaN
    k = i32(x * f32(1.44269504088896341) - f32(0.5))
    r = x - f32(k) * f32(0.693359375) + f32(k) * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1)) * _as_float(i32((k + i32(127)) << i32(23)))


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
