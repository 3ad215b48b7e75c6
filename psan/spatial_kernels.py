"""Compiled loops of `psan.spatial`: a whole layer of attention over sensors, group by group.

A group is a sample at one step. Its matrices `[sensors, width]` lie in a core's cache with whole
tiles of rows, and rows of `spaced` numbers.
"""

from typing import no_type_check

import numpy as np

from psan.attention_kernels import attend, attend_backward
from psan.compiled import compiled, f32, inlined
from psan.norm_kernels import normalise, normalise_backward, scaled
from psan.tile import ROWS, padded, product, spaced

OUT, HIDDEN, SHRINK = range(3)
"""Numbers of the linear maps after attention."""

HIDDEN_BIAS, SHRINK_BIAS, SCALES, SHIFTS = 0, 1, (2, 4), (3, 5)
"""Numbers of the vectors: biases, and scale and shift of both norms."""


@compiled
@no_type_check
def _copy(source, out):
    """Fills what `out` has in common with `source`."""
    for i in range(min(len(source), len(out))):
        for k in range(min(source.shape[1], out.shape[1])):
            out[i, k] = source[i, k]


@inlined
@no_type_check
def _map(source, matrix, base, first, row, n, out):
    """Fills `n` rows of `out` with `source matrix` and rows of `base`.

    From row `first` on, with `row` numbers from one to the next, or all that one with 0.
    """
    product(
        source, 0, source.shape[1], 1, matrix, 0, matrix.shape[1], matrix.shape[0],
        base, first * base.shape[1], row, out, 0, out.shape[1], n, matrix.shape[1],
    )  # fmt: skip


@inlined
@no_type_check
def _add_to_matrix(source, change, n, grad):
    """Adds `sourceᵀ change` to `grad`."""
    width = grad.shape[1]
    product(
        source, 0, 1, source.shape[1], change, 0, change.shape[1], n,
        grad, 0, width, grad, 0, width, len(grad), width,
    )  # fmt: skip


@compiled
@no_type_check
def _add_rows(change, n, grad):
    """Adds the sum of some rows."""
    for i in range(n):
        for k in range(len(grad)):
            grad[k] += change[i, k]


@compiled
@no_type_check
def relate(
    first, last, x, bias, qkv, maps, vectors, heads, factor, seeds, drop, keep,
    out, projected, mixed, log_sum, hidden, standard, inverse,
):  # fmt: skip
    """A layer for some groups, see `psan.spatial`.

    Args:
        first: number of the first group.
        last: number after the last one.
        x: `[g n d]`.
        bias: added to the scores, padded.
        qkv: to queries, keys and values, padded `[d columns]`.
        maps: after attention, padded `[3 d width]`.
        vectors: padded `[6 width]`.
        heads: number of heads.
        factor: of the products of queries and keys.
        seeds: of the random numbers in attention, after it and at the end.
        drop: what has a random number below is dropped; 0 keeps all.
        keep: factor of what is kept.
        out: `[g n d]`.
        projected: queries, keys and values `[g n 3d]`; this and the following are filled for the
            backward pass, or have no groups.
        mixed: result of the attention `[g n d]`.
        log_sum: see `attend` `[g heads n]`.
        hidden: of the feed-forward part, after its rectifier `[g n d]`.
        standard: see `normalise`, of both norms `[g 2 n d]`.
        inverse: `[g 2 n]`.
    """
    _, n, d = x.shape
    rows, columns = padded(max(n, bias.shape[1]), ROWS), spaced(d)
    block, attended = np.zeros((rows, columns), f32), np.zeros((rows, columns), f32)
    y, z = np.zeros((rows, columns), f32), np.zeros((rows, columns), f32)
    asked, zero = np.zeros((rows, spaced(3 * d)), f32), np.zeros((1, qkv.shape[1]), f32)
    sums, normal, factors = (
        np.empty((heads, n), f32),
        np.empty((2, n, d), f32),
        np.empty((2, n), f32),
    )
    for g in range(first, last):
        _copy(x[g], block)
        _map(block, qkv, zero, 0, 0, n, asked)
        attend(
            asked, bias, heads, d // heads, factor, seeds[0], g * n * heads, drop, keep,
            attended, sums,
        )  # fmt: skip
        _map(attended, maps[OUT], zero, 0, 0, n, z)
        normalise(
            z, block, vectors[SCALES[0]], vectors[SHIFTS[0]], seeds[1], g * n, drop, keep,
            y, normal[0], factors[0],
        )  # fmt: skip
        _map(y, maps[HIDDEN], vectors, HIDDEN_BIAS, 0, n, block)
        for i in range(n):
            for k in range(d):
                block[i, k] = max(block[i, k], f32(0))
        _map(block, maps[SHRINK], vectors, SHRINK_BIAS, 0, n, z)
        if len(log_sum):
            _copy(asked, projected[g])
            _copy(attended, mixed[g])
            _copy(block, hidden[g])
            _copy(sums, log_sum[g])
        normalise(
            z, y, vectors[SCALES[1]], vectors[SHIFTS[1]], seeds[2], g * n, drop, keep,
            block, normal[1], factors[1],
        )  # fmt: skip
        _copy(block, out[g])
        if len(log_sum):
            _copy(normal[0], standard[g, 0])
            _copy(normal[1], standard[g, 1])
            _copy(factors, inverse[g])


@compiled
@no_type_check
def relate_backward(
    first, last, x, bias, qkv, maps, vectors, heads, factor, seeds, drop, keep,
    projected, mixed, log_sum, hidden, standard, inverse, given,
    grad, grad_bias, grad_qkv, grad_maps, grad_vectors,
):  # fmt: skip
    """Gradients of `relate`.

    Args:
        first: as for `relate`.
        last: as for `relate`.
        x: as for `relate`.
        bias: as for `relate`.
        qkv: transposed, padded `[3d width]`.
        maps: each transposed, padded `[3 d width]`.
        vectors: as for `relate`, and so are the next five.
        heads: number of heads.
        factor: of the scores.
        seeds: of the random numbers.
        drop: threshold of the random numbers.
        keep: factor of what is kept.
        projected: made by `relate`, and so are the next five.
        mixed: result of the attention.
        log_sum: of its rows.
        hidden: of the feed-forward part.
        standard: of both norms.
        inverse: of both norms.
        given: gradient of the output `[g n d]`.
        grad: filled with that of `x`.
        grad_bias: to which this is added, like to all that follow `[rows columns]`.
        grad_qkv: whole tiles `[rows columns]`.
        grad_maps: whole tiles `[3 rows width]`.
        grad_vectors: `[6 width]`.
    """
    _, n, d = x.shape
    rows, columns = padded(max(n, bias.shape[1]), ROWS), spaced(d)
    block, slope = np.zeros((rows, columns), f32), np.zeros((rows, columns), f32)
    residual, change = np.zeros((rows, columns), f32), np.zeros((rows, columns), f32)
    asked, to_asked = np.zeros((rows, spaced(3 * d)), f32), np.zeros((rows, spaced(3 * d)), f32)
    zero = np.zeros((1, columns), f32)
    for g in range(first, last):
        _copy(given[g], slope)
        normalise_backward(
            slope, standard[g, 1], inverse[g, 1], vectors[SCALES[1]], seeds[2], g * n, drop, keep,
            residual, change, grad_vectors[SCALES[1]], grad_vectors[SHIFTS[1]],
        )  # fmt: skip
        _copy(hidden[g], block)
        _add_to_matrix(block, change, n, grad_maps[SHRINK])
        _add_rows(change, n, grad_vectors[SHRINK_BIAS])
        _map(change, maps[SHRINK], zero, 0, 0, n, slope)
        for i in range(n):
            for k in range(d):
                slope[i, k] = slope[i, k] if block[i, k] > 0 else f32(0)
            scaled(standard[g, 0, i], vectors[SCALES[0]], vectors[SHIFTS[0]], block[i, :d])
        _add_to_matrix(block, slope, n, grad_maps[HIDDEN])
        _add_rows(slope, n, grad_vectors[HIDDEN_BIAS])
        _map(slope, maps[HIDDEN], residual, 0, columns, n, residual)
        normalise_backward(
            residual, standard[g, 0], inverse[g, 0], vectors[SCALES[0]], seeds[1], g * n, drop,
            keep, slope, change, grad_vectors[SCALES[0]], grad_vectors[SHIFTS[0]],
        )  # fmt: skip
        _copy(mixed[g], block)
        _add_to_matrix(block, change, n, grad_maps[OUT])
        _map(change, maps[OUT], zero, 0, 0, n, residual)
        _copy(projected[g], asked)
        attend_backward(
            asked, bias, heads, d // heads, factor, seeds[0], g * n * heads, drop, keep,
            block, log_sum[g], residual, to_asked, grad_bias,
        )  # fmt: skip
        _copy(x[g], block)
        _add_to_matrix(block, to_asked, n, grad_qkv)
        _map(to_asked, qkv, slope, 0, columns, n, slope)
        _copy(slope, grad[g])
