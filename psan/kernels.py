"""Loops over single numbers that torch would make as chains of separate operations on a CPU.

Matrix products stay with torch. Here is what stands between them: softmax with a shared bias and
dropout, the gates of the temporal convolution, dropout. Numba compiles each function at its first
call and keeps the result beside this file or in the user's cache, for the next process.

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


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def attention_weights(scores, bias, scale, log_sum, first, seed, drop):
    """Turns scores `[g n n]` into weights that are not yet divided by their sum, some dropped.

    Args:
        scores: products of queries and keys; overwritten.
        bias: added to each group's scores `[n n]`.
        scale: filled with 1 / sum of each row's weights `[g n]`.
        log_sum: filled with the logarithm of the sum of each row's exponentials `[g n]`.
        first: number of the first group, for the random numbers.
        seed: of the random numbers.
        drop: a weight goes when its random number is below; 0 keeps all.
    """
    groups, n, _ = scores.shape
    for g in prange(groups):
        for i in range(n):
            row, added, total = scores[g, i], bias[i], f32(0)
            highest = _maximum(row, added)
            if drop > 0:
                own = _row_seed(seed, (first + g) * n + i)
                for j in range(n):
                    weight = _exp(row[j] + added[j] - highest)
                    total += weight
                    row[j] = weight if _random(own, j) >= drop else f32(0)
            else:
                for j in range(n):
                    weight = _exp(row[j] + added[j] - highest)
                    total += weight
                    row[j] = weight
            scale[g, i] = f32(1) / total
            log_sum[g, i] = highest + np.log(total)


@njit(parallel=True, fastmath=FASTMATH, cache=True)
@no_type_check
def attention_weights_backward(
    scores, grad, bias, log_sum, weighted, grad_bias, first, seed, drop, keep
):
    """Turns scores into weights, and the weights' gradient into that of the scores.

    Args:
        scores: as for `attention_weights`; overwritten with the weights after dropout.
        grad: of the weights after dropout `[g n n]`; overwritten with that of the scores.
        bias: `[n n]`.
        log_sum: of `attention_weights`.
        weighted: product of the output and its gradient, summed over features `[g n]`.
        grad_bias: the scores' gradient is added, a slice per thread `[threads n n]`.
        first: as for `attention_weights`.
        seed: as for `attention_weights`.
        drop: as for `attention_weights`.
        keep: factor of the weights that are kept.
    """
    groups, n, _ = scores.shape
    threads = len(grad_bias)
    for thread in prange(threads):
        for g in range(thread * groups // threads, (thread + 1) * groups // threads):
            for i in range(n):
                row, slope, added, share = scores[g, i], grad[g, i], bias[i], grad_bias[thread, i]
                shift, mean = log_sum[g, i], weighted[g, i]
                if drop > 0:
                    own = _row_seed(seed, (first + g) * n + i)
                    for j in range(n):
                        weight = _exp(min(row[j] + added[j] - shift, f32(0)))
                        kept = keep if _random(own, j) >= drop else f32(0)
                        row[j] = weight * kept
                        slope[j] = weight * (slope[j] * kept - mean)
                        share[j] += slope[j]
                else:
                    for j in range(n):
                        row[j] = _exp(min(row[j] + added[j] - shift, f32(0)))
                        slope[j] = row[j] * (slope[j] - mean)
                        share[j] += slope[j]


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
