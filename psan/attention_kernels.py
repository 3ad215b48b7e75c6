"""Compiled loops of `psan.attention`.

Matrix products are BLAS's, of tiles that stay in a core's cache until the softmax and the next
product are done with them.
"""

from typing import no_type_check

import numpy as np

from psan.compiled import compiled, exp, f32, inlined, maximum, random, row_seed

PRODUCT = 2**18
"""Multiplications of one matrix product: more, and BLAS starts threads of its own."""


@inlined
@no_type_check
def _rows_at_a_time(n, e):
    return max(1, min(n, PRODUCT // (n * e)))


@compiled
@no_type_check
def _copy(source, factor, out):
    """Fills `out` with `source`, which need not be contiguous, times `factor`."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = source[i, k] * factor


@compiled
@no_type_check
def _exponentials(row, added, own, drop):
    """Turns a row of scores into exponentials, some dropped; returns maximum and sum of all."""
    highest, total = maximum(row, added), f32(0)
    if drop > 0:
        for j in range(len(row)):
            weight = exp(row[j] + added[j] - highest)
            total += weight
            row[j] = weight if random(own, j) >= drop else f32(0)
    else:
        for j in range(len(row)):
            weight = exp(row[j] + added[j] - highest)
            total += weight
            row[j] = weight
    return highest, total


@compiled
@no_type_check
def _back_to_scores(row, slope, added, share, shift, mean, own, drop, keep):
    """Turns a row of scores into weights, and `slope`, their gradient, into that of the scores.

    Both are those after dropout; the scores' gradient is also added to `share`, the bias's.
    """
    if drop > 0:
        for j in range(len(row)):
            weight = exp(row[j] + added[j] - shift)
            kept = keep if random(own, j) >= drop else f32(0)
            row[j] = weight * kept
            slope[j] = weight * (slope[j] * kept - mean)
            share[j] += slope[j]
    else:
        for j in range(len(row)):
            row[j] = exp(row[j] + added[j] - shift)
            slope[j] = row[j] * (slope[j] - mean)
            share[j] += slope[j]


@compiled
@no_type_check
def attend(first, last, projected, bias, factor, seed, drop, keep, output, log_sum):
    """Attention of some groups, see `psan.attention`.

    Args:
        first: number of the first group.
        last: number after the last one.
        projected: queries, keys and values `[g n 3 h e]`.
        bias: added to the scores `[n n]`.
        factor: of the products of queries and keys.
        seed: of the random numbers.
        drop: a weight goes when its random number is below; 0 keeps all.
        keep: factor of the weights that are kept.
        output: filled `[g n h e]`.
        log_sum: filled with the logarithm of the sum of each row's exponentials `[g h n]`.
    """
    _, n, _, heads, e = projected.shape
    rows = _rows_at_a_time(n, e)
    query, value, key = np.empty((n, e), f32), np.empty((n, e), f32), np.empty((e, n), f32)
    scores, mixed = np.empty((rows, n), f32), np.empty((rows, e), f32)
    scale = np.empty(rows, f32)
    for g in range(first, last):
        for h in range(heads):
            _copy(projected[g, :, 0, h], factor, query)
            _copy(projected[g, :, 1, h].T, f32(1), key)
            _copy(projected[g, :, 2, h], f32(1), value)
            for start in range(0, n, rows):
                here = min(rows, n - start)
                np.dot(query[start : start + here], key, scores[:here])
                for i in range(here):
                    own = row_seed(seed, (g * heads + h) * n + start + i)
                    highest, total = _exponentials(scores[i], bias[start + i], own, drop)
                    scale[i] = keep / total
                    log_sum[g, h, start + i] = highest + np.log(total)
                np.dot(scores[:here], value, mixed[:here])
                for i in range(here):
                    for k in range(e):
                        output[g, start + i, h, k] = mixed[i, k] * scale[i]


@compiled
@no_type_check
def attend_backward(
    first, last, projected, bias, factor, seed, drop, keep, output, log_sum, given, grad, grad_bias
):
    """Gradients of `attend`; the weights are made again.

    Args:
        first: number of the first group.
        last: number after the last one.
        projected: as for `attend`, and so are the next five.
        bias: `[n n]`.
        factor: of the scores.
        seed: of the random numbers.
        drop: threshold of the random numbers.
        keep: factor of the weights that are kept.
        output: of `attend`.
        log_sum: of `attend`.
        given: gradient of the output `[g n h e]`.
        grad: filled with that of `projected` `[g n 3 h e]`.
        grad_bias: that of the bias is added `[n n]`.
    """
    _, n, _, heads, e = projected.shape
    rows = _rows_at_a_time(n, e)
    query, key, slope = np.empty((n, e), f32), np.empty((n, e), f32), np.empty((n, e), f32)
    offered, value = np.empty((e, n), f32), np.empty((e, n), f32)
    grad_key, grad_value = np.empty((e, n), f32), np.empty((e, n), f32)
    weights, change = np.empty((rows, n), f32), np.empty((rows, n), f32)
    product, of_query = np.empty((e, n), f32), np.empty((rows, e), f32)
    for g in range(first, last):
        for h in range(heads):
            _copy(projected[g, :, 0, h], factor, query)
            _copy(projected[g, :, 1, h], f32(1), key)
            _copy(key.T, f32(1), offered)
            _copy(projected[g, :, 2, h].T, f32(1), value)
            _copy(given[g, :, h], f32(1), slope)
            grad_key[:], grad_value[:] = 0, 0
            for start in range(0, n, rows):
                here = min(rows, n - start)
                stop = start + here
                np.dot(query[start:stop], offered, weights[:here])
                np.dot(slope[start:stop], value, change[:here])
                for i in range(here):
                    at, mean = start + i, f32(0)
                    for k in range(e):
                        mean += slope[at, k] * output[g, at, h, k]
                    own = row_seed(seed, (g * heads + h) * n + at)
                    _back_to_scores(
                        weights[i], change[i], bias[at], grad_bias[at],
                        log_sum[g, h, at], mean, own, drop, keep,
                    )  # fmt: skip
                np.dot(slope[start:stop].T, weights[:here], product)
                grad_value += product
                np.dot(query[start:stop].T, change[:here], product)
                grad_key += product
                np.dot(change[:here], key, of_query[:here])
                _copy(of_query, factor, grad[g, start:stop, 0, h])
            _copy(grad_key.T, f32(1), grad[g, :, 1, h])
            _copy(grad_value.T, f32(1), grad[g, :, 2, h])
