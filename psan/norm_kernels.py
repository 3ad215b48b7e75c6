"""Residual, dropout and layer norm of rows in a core's cache, in compiled loops.

Dropout's random numbers are those of row `first_row + i` with the seed `seed`: one is dropped where
its number is below `drop` (0 drops nothing), and the others are multiplied by `keep`.
"""

from typing import no_type_check

import numpy as np

from psan.compiled import compiled, f32, inlined, random, row_seed

EPSILON = 1e-5
"""Added to a variance, as torch does by default."""


@compiled
@no_type_check
def _kept_row(source, own, drop, keep, out):
    """Fills `out` with `keep · source`, or 0 where the random number is below `drop`."""
    if drop > 0:
        for k in range(len(out)):
            out[k] = source[k] * keep if random(own, k) >= drop else f32(0)
    else:
        for k in range(len(out)):
            out[k] = source[k]


@compiled
@no_type_check
def normalise(
    change, residual, scale, shift, seed, first_row, drop, keep, out, standard, inverse
):  # fmt: skip
    """Fills `out` with `norm(residual + dropout(change))`.

    Also fills `standard` `[n d]` with the same before scale and shift, and `inverse` `[n]` with
    what each row was multiplied by.
    """
    n, d = standard.shape
    for i in range(n):
        row, before = standard[i], residual[i, :d]
        _kept_row(change[i, :d], row_seed(seed, first_row + i), drop, keep, row)
        mean, square = f32(0), f32(0)
        for k in range(d):
            row[k] += before[k]
            mean += row[k]
        mean /= f32(d)
        for k in range(d):
            row[k] -= mean
            square += row[k] * row[k]
        inverse[i] = f32(1) / np.sqrt(square / f32(d) + f32(EPSILON))
        for k in range(d):
            row[k] *= inverse[i]
        scaled(row, scale, shift, out[i, :d])


@inlined
@no_type_check
def scaled(row, scale, shift, out):
    """Fills `out` with `row · scale + shift`."""
    for k in range(len(row)):
        out[k] = row[k] * scale[k] + shift[k]


@compiled
@no_type_check
def normalise_backward(
    given, standard, inverse, scale, seed, first_row, drop, keep, to_residual, to_change,
    grad_scale, grad_shift,
):  # fmt: skip
    """Gradients of `normalise` from that of its output; those of scale and shift are added to."""
    n, d = standard.shape
    for i in range(n):
        slope, row, result = given[i, :d], standard[i], to_residual[i, :d]
        mean, tilt = f32(0), f32(0)
        for k in range(d):
            before = slope[k] * scale[k]
            mean += before
            tilt += before * row[k]
        mean /= f32(d)
        tilt /= f32(d)
        for k in range(d):
            result[k] = inverse[i] * (slope[k] * scale[k] - mean - row[k] * tilt)
        for k in range(d):
            grad_scale[k] += slope[k] * row[k]
            grad_shift[k] += slope[k]
        _kept_row(result, row_seed(seed, first_row + i), drop, keep, to_change[i, :d])
