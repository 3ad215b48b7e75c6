"""Compiled loops of `psan.attention`.

A part of the scores stays in a core's cache until the softmax and the next products are done with
it. Keys are padded to whole tiles; the bias is least there, so that no padded key has a weight.
"""

from typing import no_type_check

import numpy as np

from psan.attention_rows import back_to_scores, exponentials, maximum
from psan.compiled import compiled, f32, inlined, row_seed
from psan.tile import COLUMNS, ROWS, padded, tile

BLOCK_ROWS = 8 * ROWS
"""Queries whose weights and gradients are in the cache together in the backward pass."""


@inlined
@no_type_check
def _take(source, g, h, factor, out):
    """Fills the first rows and columns of `out` with `factor · source[g, :, h]` `[n e]`."""
    for i in range(source.shape[1]):
        for k in range(source.shape[3]):
            out[i, k] = source[g, i, h, k] * factor


@inlined
@no_type_check
def _take_transposed(source, g, h, factor, out):
    """The same with rows and columns of `out` exchanged."""
    for i in range(source.shape[1]):
        for k in range(source.shape[3]):
            out[k, i] = source[g, i, h, k] * factor


@inlined
@no_type_check
def _put(source, factor, g, first, h, rows, out):
    """Fills `out[g, first:, h]` with `factor · source`, for so many rows."""
    for i in range(rows):
        for k in range(out.shape[3]):
            out[g, first + i, h, k] = source[i, k] * factor


@compiled
@no_type_check
def _product(a, a_row, a_step, b, depth, base, base_row, c, rows):
    """Fills `c` with `base + a b`, for at least so many rows of it.

    Args:
        a: left matrix `[rows depth]`, transposed if `a_row` is 1.
        a_row: entries from one of its rows to the next.
        a_step: entries from one of its columns to the next.
        b: right matrix `[depth columns]`.
        depth: length of the sums.
        base: as `c`, and may be it; or one row of it, with `base_row` 0.
        base_row: entries from one of its rows to the next.
        c: filled `[rows columns]`, both padded to whole tiles.
        rows: how many.
    """
    columns = c.shape[1]
    for j in range(0, columns, COLUMNS):
        for i in range(0, rows, ROWS):
            tile(
                a, i * a_row, a_row, a_step, b, j, columns, depth,
                base, i * base_row + j, base_row, c, i * columns + j, columns,
            )  # fmt: skip


@compiled
@no_type_check
def attend(first, last, projected, bias, factor, seed, drop, keep, output, log_sum):
    """Attention of some groups, see `psan.attention`.

    Args:
        first: number of the first group.
        last: number after the last one.
        projected: queries, keys and values `[g n 3h e]`.
        bias: added to the scores, padded `[rows columns]`.
        factor: of the products of queries and keys.
        seed: of the random numbers.
        drop: a weight goes when its random number is below; 0 keeps all.
        keep: factor of the weights that are kept.
        output: filled `[g n h e]`.
        log_sum: filled with the logarithm of the sum of each row's exponentials `[g h n]`.
    """
    _, n, heads, e = output.shape
    rows, width = bias.shape
    across = padded(e, COLUMNS)
    query, key = np.zeros((rows, e), f32), np.zeros((e, width), f32)
    value, zero = np.zeros((n, across), f32), np.zeros((1, across), f32)
    scores, mixed = np.empty((ROWS, width), f32), np.empty((ROWS, across), f32)
    scale = np.empty(ROWS, f32)
    for g in range(first, last):
        for h in range(heads):
            _take(projected, g, h, f32(1), query)
            _take_transposed(projected, g, heads + h, factor, key)
            _take(projected, g, 2 * heads + h, f32(1), value)
            for start in range(0, n, ROWS):
                here = min(ROWS, n - start)
                _product(query[start:], e, 1, key, e, bias[start:], width, scores, ROWS)
                for i in range(here):
                    own = row_seed(seed, (g * heads + h) * n + start + i)
                    highest = maximum(scores, i * width, width)
                    total = exponentials(scores, i * width, width, highest, own, drop)
                    log_sum[g, h, start + i] = highest + np.log(total)
                    scale[i] = keep / total
                _product(scores, width, 1, value, n, zero, 0, mixed, ROWS)
                for i in range(here):
                    for k in range(e):
                        output[g, start + i, h, k] = mixed[i, k] * scale[i]


@compiled
@no_type_check
def attend_backward(
    first, last, projected, bias, factor, seed, drop, keep, output, log_sum, given, grad, grad_bias
):
    """Gradients of `attend`; the weights are made again.

    With weights `P` after dropout and their gradient `G = given valueᵀ`, the scores' is
    `S' = P ⊙ G - p mean`, see `back_to_scores`, `mean` being `given · output` of the row; then
    `value' = Pᵀ given`, `query' = S' key factor` and `key' = S'ᵀ query factor`.

    Args:
        first: number of the first group.
        last: number after the last one.
        projected: as for `attend`, and so are the next five.
        bias: padded `[rows columns]`.
        factor: of the scores.
        seed: of the random numbers.
        drop: threshold of the random numbers.
        keep: factor of the weights that are kept.
        output: of `attend`.
        log_sum: of `attend`.
        given: gradient of the output `[g n h e]`.
        grad: filled with that of `projected` `[g n 3h e]`.
        grad_bias: that of the bias is added `[rows columns]`.
    """
    _, n, heads, e = output.shape
    rows, width = bias.shape
    across = padded(e, COLUMNS)
    query, slope = np.zeros((rows, across), f32), np.zeros((rows, across), f32)
    key = np.zeros((rows, across), f32)
    offered, value = np.zeros((e, width), f32), np.zeros((e, width), f32)
    grad_key, grad_value = np.empty((rows, across), f32), np.empty((rows, across), f32)
    weights, change = np.empty((BLOCK_ROWS, width), f32), np.empty((BLOCK_ROWS, width), f32)
    of_query, zero = np.empty((BLOCK_ROWS, across), f32), np.zeros((1, max(across, width)), f32)
    for g in range(first, last):
        for h in range(heads):
            _take(projected, g, h, f32(1), query)
            _take(projected, g, heads + h, f32(1), key)
            _take_transposed(projected, g, heads + h, factor, offered)
            _take_transposed(projected, g, 2 * heads + h, f32(1), value)
            _take(given, g, h, f32(1), slope)
            grad_key[:], grad_value[:] = 0, 0
            for start in range(0, n, BLOCK_ROWS):
                here = min(BLOCK_ROWS, n - start)
                asked, wanted = query[start:], slope[start:]
                _product(asked, across, 1, offered, e, bias[start:], width, weights, here)
                _product(wanted, across, 1, value, e, zero, 0, change, here)
                for i in range(here):
                    at, mean = start + i, f32(0)
                    for k in range(e):
                        mean += slope[at, k] * output[g, at, h, k]
                    own = row_seed(seed, (g * heads + h) * n + at)
                    back_to_scores(
                        weights, change, i * width, width, log_sum[g, h, at], mean,
                        own, drop, keep, grad_bias, at * width,
                    )  # fmt: skip
                _product(weights, 1, width, wanted, here, grad_value, across, grad_value, n)
                _product(change, 1, width, asked, here, grad_key, across, grad_key, n)
                _product(change, width, 1, key, n, zero, 0, of_query, here)
                _put(of_query, factor, g, start, h, here, grad)
            _put(grad_key, factor, g, 0, heads + h, n, grad)
            _put(grad_value, f32(1), g, 0, 2 * heads + h, n, grad)
