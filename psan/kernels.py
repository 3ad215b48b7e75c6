"""Loops over single numbers that torch would make as chains of separate operations on a CPU.

Attention with a shared bias and dropout, the gates of the temporal convolution, and dropout itself.
Matrix products are BLAS's, in tiles that stay in a core's cache until softmax and the next product
are done with them. Numba compiles each function at its first call and keeps the result beside this
file or in the user's cache, for the next process.

All arrays are float32 and C-contiguous. Random numbers are a hash of a seed and of an entry's
place, so that the backward pass makes the same ones again and nothing has to be kept.
"""

from typing import no_type_check

import numba
import numpy as np
import torch
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic

f32, i32, u32 = np.float32, np.int32, np.uint32

FASTMATH = {"contract", "reassoc", "nsz", "arcp", "afn"}
"""Sums may be taken in any order, as in a matrix product; NaN and infinity keep their meaning."""

BLOCK = 1024
"""Entries that one thread takes at a time: some rows of that length stay in its cache."""

PRODUCT = 2**18
"""Multiplications of one matrix product: more, and BLAS starts threads of its own."""

RANDOM_VALUES = 2**32
"""Random numbers are integers from 0 to below this."""


def use_torch_threads() -> None:
    """Gives the kernels as many threads as torch has."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at import
    numba.set_num_threads(min(torch.get_num_threads(), most))


@intrinsic
@no_type_check
def _as_float(context, bits):  # the same 32 bits
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@intrinsic
@no_type_check
def _as_bits(context, value):  # the same 32 bits
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


@njit(inline="always", fastmath=FASTMATH)
@no_type_check
def _exp(x):
    """`exp(x)` for `x ≤ 0`, within 2 units in the last place (Cephes library, expf).

    Below -87, where float32 has no room, exp(-87) = 1.6e-38.
    """
    x = max(x, f32(-87.0))
    k = i32(x * f32(1.44269504088896341) - f32(0.5))
    r = x - f32(k) * f32(0.693359375) + f32(k) * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    return (p * r * r + r + f32(1)) * _as_float(i32((k + i32(127)) << i32(23)))


@njit(inline="always")
@no_type_check
def _hash(h):
    """Mixes the bits of a 32-bit number (Wellons, "hash-prospector", 2018, lowest bias)."""
    h = u32(u32(h ^ (h >> u32(16))) * u32(0x21F0AAAD))
    h = u32(u32(h ^ (h >> u32(15))) * u32(0x735A2D97))
    return u32(h ^ (h >> u32(15)))


@njit(inline="always")
@no_type_check
def _random(seed, place):
    return _hash(u32(seed + u32(place) * u32(0x9E3779B9)))


@njit(inline="always")
@no_type_check
def _row_seed(seed, row):
    return _hash(u32(u32(row) ^ seed))


@njit(inline="always")
@no_type_check
def _ordered(bits):
    """Bits of a float as an integer of the same order; its own inverse."""
    return i32(bits ^ ((bits >> i32(31)) & i32(0x7FFFFFFF)))


@njit(inline="always")
@no_type_check
def _maximum(row, added):
    """Largest of `row + added`; of integers, because a maximum of floats is not vectorised."""
    top = i32(-(2**31))
    for j in range(len(row)):
        top = max(top, _ordered(_as_bits(row[j] + added[j])))
    return _as_float(_ordered(top))


@njit(inline="always")
@no_type_check
def _rows_at_a_time(n, e):
    return max(1, min(n, PRODUCT // (n * e)))


@njit(fastmath=FASTMATH)
@no_type_check
def _copy(source, factor, out):
    """Fills `out` with `source`, which need not be contiguous, times `factor`."""
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] = source[i, k] * factor


@njit(fastmath=FASTMATH)
@no_type_check
def _exponentials(row, added, own, drop):
    """Turns a row of scores into exponentials, some dropped; returns maximum and sum of all."""
    highest, total = _maximum(row, added), f32(0)
    if drop > 0:
        for j in range(len(row)):
            weight = _exp(row[j] + added[j] - highest)
            total += weight
            row[j] = weight if _random(own, j) >= drop else f32(0)
    else:
        for j in range(len(row)):
            weight = _exp(row[j] + added[j] - highest)
            total += weight
            row[j] = weight
    return highest, total


@njit(fastmath=FASTMATH)
@no_type_check
def _back_to_scores(row, slope, added, share, shift, mean, own, drop, keep):
    """Turns a row of scores into weights, and `slope`, their gradient, into that of the scores.

    Both are those after dropout; the scores' gradient is also added to `share`, the bias's.
    """
    if drop > 0:
        for j in range(len(row)):
            weight = _exp(min(row[j] + added[j] - shift, f32(0)))
            kept = keep if _random(own, j) >= drop else f32(0)
            row[j] = weight * kept
            slope[j] = weight * (slope[j] * kept - mean)
            share[j] += slope[j]
    else:
        for j in range(len(row)):
            row[j] = _exp(min(row[j] + added[j] - shift, f32(0)))
            slope[j] = row[j] * (slope[j] - mean)
            share[j] += slope[j]


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def attend(projected, bias, factor, seed, drop, keep, output, log_sum):
    """Attention of every group and head, see `psan.attention`.

    Args:
        projected: queries, keys and values `[g n 3 h e]`.
        bias: added to the scores `[n n]`.
        factor: of the products of queries and keys.
        seed: of the random numbers.
        drop: a weight goes when its random number is below; 0 keeps all.
        keep: factor of the weights that are kept.
        output: filled `[g n h e]`.
        log_sum: filled with the logarithm of the sum of each row's exponentials `[g h n]`.
    """
    groups, n, _, heads, e = projected.shape
    rows = _rows_at_a_time(n, e)
    for g in prange(groups):
        query, value, key = np.empty((n, e), f32), np.empty((n, e), f32), np.empty((e, n), f32)
        scores, mixed = np.empty((rows, n), f32), np.empty((rows, e), f32)
        scale = np.empty(rows, f32)
        for h in range(heads):
            _copy(projected[g, :, 0, h], factor, query)
            _copy(projected[g, :, 1, h].T, f32(1), key)
            _copy(projected[g, :, 2, h], f32(1), value)
            for start in range(0, n, rows):
                here = min(rows, n - start)
                np.dot(query[start : start + here], key, scores[:here])
                for i in range(here):
                    own = _row_seed(seed, (g * heads + h) * n + start + i)
                    highest, total = _exponentials(scores[i], bias[start + i], own, drop)
                    scale[i] = keep / total
                    log_sum[g, h, start + i] = highest + np.log(total)
                np.dot(scores[:here], value, mixed[:here])
                for i in range(here):
                    for k in range(e):
                        output[g, start + i, h, k] = mixed[i, k] * scale[i]


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def attend_backward(
    projected, bias, factor, seed, drop, keep, output, log_sum, given, grad, grad_bias
):
    """Gradients of `attend`; the weights are made again.

    Args:
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
        grad_bias: that of the bias is added, a slice per thread `[threads n n]`.
    """
    groups, n, _, heads, e = projected.shape
    rows, threads = _rows_at_a_time(n, e), len(grad_bias)
    for thread in prange(threads):
        query, key, slope = np.empty((n, e), f32), np.empty((n, e), f32), np.empty((n, e), f32)
        offered, value = np.empty((e, n), f32), np.empty((e, n), f32)
        grad_key, grad_value = np.empty((e, n), f32), np.empty((e, n), f32)
        weights, change = np.empty((rows, n), f32), np.empty((rows, n), f32)
        product, of_query = np.empty((e, n), f32), np.empty((rows, e), f32)
        for g in range(thread * groups // threads, (thread + 1) * groups // threads):
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
                        own = _row_seed(seed, (g * heads + h) * n + at)
                        _back_to_scores(
                            weights[i], change[i], bias[at], grad_bias[thread, at],
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


@njit(inline="always", fastmath=FASTMATH)
@no_type_check
def _sigmoid(z):
    small = _exp(-abs(z))
    return (f32(1) if z >= 0 else small) / (f32(1) + small)


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def gate(x, o, weight, bias, out):
    """Fills `out` with `s ⊙ o + (1 - s) ⊙ v`, see `psan.gate`.

    Args:
        x: `[d m]`.
        o: a part for each direction `[d 2 m]`.
        weight: `[direction gate d 2]`.
        bias: `[direction gate d]`.
        out: `[d 2 m]`.
    """
    d, m = x.shape
    for block in prange((m + BLOCK - 1) // BLOCK):
        here = slice(block * BLOCK, min((block + 1) * BLOCK, m))
        for i in range(d):
            pair = 2 * (i % (d // 2))
            for k in range(2):
                first = x[pair, here] if i < d // 2 else o[pair, k, here]
                second = x[pair + 1, here] if i < d // 2 else o[pair + 1, k, here]
                own, result = o[i, k, here], out[i, k, here]
                (a, b), (c, e) = weight[k, 0, i], weight[k, 1, i]
                p, q = bias[k, 0, i], bias[k, 1, i]
                for j in range(len(own)):
                    s = _sigmoid(a * first[j] + b * second[j] + p)
                    v = _sigmoid(c * first[j] + e * second[j] + q)
                    result[j] = v + s * (own[j] - v)


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def gate_backward(x, o, weight, bias, grad, grad_x, grad_o, sums):
    """Gradients of `gate`.

    Args:
        x: as for `gate`.
        o: as for `gate`.
        weight: as for `gate`.
        bias: as for `gate`.
        grad: of the output `[d 2 m]`.
        grad_x: filled `[d m]`.
        grad_o: filled `[d 2 m]`.
        sums: filled with the gradients of each gate's two weights and bias, for each block of
            columns `[blocks direction gate d 3]`.
    """
    d, m = x.shape
    for block in prange((m + BLOCK - 1) // BLOCK):
        here = slice(block * BLOCK, min((block + 1) * BLOCK, m))
        grad_x[:, here] = 0
        grad_o[:, :, here] = 0
        for i in range(d):
            pair = 2 * (i % (d // 2))
            of_x = i < d // 2
            for k in range(2):
                first = x[pair, here] if of_x else o[pair, k, here]
                second = x[pair + 1, here] if of_x else o[pair + 1, k, here]
                to_first = grad_x[pair, here] if of_x else grad_o[pair, k, here]
                to_second = grad_x[pair + 1, here] if of_x else grad_o[pair + 1, k, here]
                own, to_own, given = o[i, k, here], grad_o[i, k, here], grad[i, k, here]
                (a, b), (c, e) = weight[k, 0, i], weight[k, 1, i]
                p, q = bias[k, 0, i], bias[k, 1, i]
                sa = sb = sp = sc = se = sq = f32(0)
                for j in range(len(own)):
                    y, z = first[j], second[j]
                    s, v = _sigmoid(a * y + b * z + p), _sigmoid(c * y + e * z + q)
                    to_s = given[j] * (own[j] - v) * s * (f32(1) - s)
                    to_v = given[j] * (f32(1) - s) * v * (f32(1) - v)
                    sa += to_s * y
                    sb += to_s * z
                    sp += to_s
                    sc += to_v * y
                    se += to_v * z
                    sq += to_v
                    to_first[j] += a * to_s + c * to_v
                    to_second[j] += b * to_s + e * to_v
                for j in range(len(own)):  # apart: `to_own` may be one of the two above
                    s = _sigmoid(a * first[j] + b * second[j] + p)
                    to_own[j] += given[j] * s
                sums[block, k, 0, i] = sa, sb, sp
                sums[block, k, 1, i] = sc, se, sq


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def dropout(x, out, seed, drop, keep):
    """Fills `out` with `keep · x`, or 0 where the random number is below `drop`; both `[m]`."""
    for block in prange((len(x) + BLOCK - 1) // BLOCK):
        own, start = _row_seed(seed, block), block * BLOCK
        for j in range(min(BLOCK, len(x) - start)):
            value = x[start + j] * keep
            out[start + j] = value if _random(own, j) >= drop else f32(0)
