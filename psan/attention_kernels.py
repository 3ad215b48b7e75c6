"""Attention of one group, a sample at one step, in compiled loops.

Some rows of scores stay in a core's cache until the softmax and the next products are done with
them. Keys are padded to whole tiles; the bias is least there, so that no padded key has a weight.
Head `h` of `heads` has `e` columns: of `projected` `[rows stride]` from `h e` on those of the
queries, from `(heads + h) e` on of the keys, from `(2 heads + h) e` on of the values. Tiles read
and make more columns than a head has; what is more is not used, and rows have room for it.
"""

from typing import no_type_check

import numpy as np

from psan.attention_rows import back_to_scores, maximum, powers
from psan.compiled import compiled, f32, inlined, row_seed
from psan.tile import COLUMNS, ROWS, padded, product

LOG2_E = 1.4426950408889634
"""Scores times this are for powers of two, which are faster than those of e."""

BLOCK_ROWS = 8 * ROWS
"""Queries whose weights and gradients are in the cache together in the backward pass."""


@inlined
@no_type_check
def _turn(source, begin, factor, out):
    """Fills `out` with `factor` times columns of `source` from `begin` on, as rows."""
    for i in range(out.shape[1]):
        for k in range(out.shape[0]):
            out[k, i] = source[i, begin + k] * factor


@inlined
@no_type_check
def _scores(asked, at, keys, bias, start, out, rows):
    """Fills `out` with products of some queries, or rows like them, and `keys`, and the bias."""
    width = bias.shape[1]
    stride = asked.shape[1]
    product(
        asked, start * stride + at, stride, 1, keys, 0, width, len(keys),
        bias, start * width, width, out, 0, width, rows, width,
    )  # fmt: skip


@compiled
@no_type_check
def attend(projected, bias, heads, e, factor, seed, first_row, drop, keep, out, log_sum):
    """Fills `out` with `dropout(softmax(query keyᵀ factor + bias)) value` of each head.

    Args:
        projected: queries, keys and values.
        bias: added to the scores, times `LOG2_E`, padded `[rows width]`, with a `width` not above
            the rows of `projected`.
        heads: number of heads.
        e: columns of a head.
        factor: of the products of queries and keys.
        seed: of the random numbers.
        first_row: number of the group's first row of weights, among all that have this seed.
        drop: a weight goes when its random number is below; 0 keeps all.
        keep: factor of the weights that are kept.
        out: `[rows stride]`, head by head.
        log_sum: filled with the logarithm to base 2 of each row's sum `[heads n]`.
    """
    n, width, stride = log_sum.shape[1], bias.shape[1], projected.shape[1]
    across = padded(e, COLUMNS)
    keys, zero = np.empty((e, width), f32), np.zeros((1, across), f32)
    scores, mixed = np.empty((ROWS, width), f32), np.empty((ROWS, across), f32)
    scale = np.empty(ROWS, f32)
    for h in range(heads):
        _turn(projected, (heads + h) * e, factor * f32(LOG2_E), keys)
        for start in range(0, n, ROWS):
            here = min(ROWS, n - start)
            _scores(projected, h * e, keys, bias, start, scores, ROWS)
            for i in range(here):
                own = row_seed(seed, first_row + h * n + start + i)
                highest = maximum(scores, i * width, width)
                total = powers(scores, i * width, width, highest, own, drop)
                log_sum[h, start + i] = highest + np.log2(total)
                scale[i] = keep / total
            product(
                scores, 0, width, 1, projected, (2 * heads + h) * e, stride, n,
                zero, 0, 0, mixed, 0, across, ROWS, across,
            )  # fmt: skip
            for i in range(here):
                for k in range(e):
                    out[start + i, h * e + k] = mixed[i, k] * scale[i]


@compiled
@no_type_check
def attend_backward(
    projected, bias, heads, e, factor, seed, first_row, drop, keep, out, log_sum, given, grad,
    grad_bias,
):  # fmt: skip
    """Gradients of `attend`; the weights are made again.

    With weights `P` after dropout and their gradient `G = given valueᵀ`, the scores' is
    `S' = P ⊙ G - p mean`, see `back_to_scores`, `mean` being `given · out` of the row; then
    `value' = Pᵀ given`, `query' = S' key factor` and `key' = S'ᵀ query factor`.

    Args:
        projected: as for `attend`, and so are the next eight.
        bias: as for `attend`.
        heads: number of heads.
        e: columns of a head.
        factor: of the scores.
        seed: of the random numbers.
        first_row: number of the first row of weights.
        drop: threshold of the random numbers.
        keep: factor of the weights that are kept.
        out: of `attend`.
        log_sum: of `attend`.
        given: gradient of the output, with rows as long as those of `out`.
        grad: filled with that of `projected`.
        grad_bias: to which that of the bias is added, not of `LOG2_E` times it.
    """
    n, width, stride = log_sum.shape[1], bias.shape[1], projected.shape[1]
    across, row = padded(e, COLUMNS), given.shape[1]
    keys, values = np.empty((e, width), f32), np.empty((e, width), f32)
    rows = BLOCK_ROWS + 1  # a tile of columns may look beyond the last one
    weights, change = np.empty((rows, width), f32), np.empty((rows, width), f32)
    to_query = np.empty((BLOCK_ROWS, across), f32)
    zero = np.zeros((1, max(across, width)), f32)
    for h in range(heads):
        query, key, value = h * e, (heads + h) * e, (2 * heads + h) * e
        _turn(projected, key, factor * f32(LOG2_E), keys)
        _turn(projected, value, f32(1), values)
        to_key = np.zeros((padded(n, ROWS), across), f32)
        to_value = np.zeros((padded(n, ROWS), across), f32)
        for start in range(0, n, BLOCK_ROWS):
            here = min(BLOCK_ROWS, n - start)
            _scores(projected, query, keys, bias, start, weights, here)
            product(
                given, start * row + query, row, 1, values, 0, width, e,
                zero, 0, 0, change, 0, width, here, width,
            )  # fmt: skip
            for i in range(here):
                at, mean = start + i, f32(0)
                for k in range(query, query + e):
                    mean += given[at, k] * out[at, k]
                own = row_seed(seed, first_row + h * n + at)
                back_to_scores(
                    weights, change, i * width, width, log_sum[h, at], mean,
                    own, drop, keep, grad_bias, at * width,
                )  # fmt: skip
            product(
                weights, 0, 1, width, given, start * row + query, row, here,
                to_value, 0, across, to_value, 0, across, n, across,
            )  # fmt: skip
            product(
                change, 0, 1, width, projected, start * stride + query, stride, here,
                to_key, 0, across, to_key, 0, across, n, across,
            )  # fmt: skip
            product(
                change, 0, width, 1, projected, key, stride, n,
                zero, 0, 0, to_query, 0, across, here, across,
            )  # fmt: skip
            for i in range(here):
                for k in range(e):
                    grad[start + i, query + k] = to_query[i, k] * factor
        for i in range(n):
            for k in range(e):
                grad[i, key + k] = to_key[i, k] * factor
                grad[i, value + k] = to_value[i, k]
