"""The pairs of additive attention on a CPU: one pass per pair, which stays in the core's cache.

The same as `baselines.pair_attention` in torch, for message networks of one Dense layer. A pair
is computed in tiles of some target steps times all its usable source steps: row m of a tile is
one (target step, source step). Nothing of a tile is kept. Numba compiles at the first call, and
keeps the result for the next process. `mode` is 0 for softmax, 1 for l1, 2 for none.
"""

from typing import no_type_check

import numpy as np
from numba import njit

TILE = 2**18  # multiplications per product of a tile; for more, BLAS would start its own threads

_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})


@_compile
@no_type_check
def _hide(source, target, layer, act, raw, hidden, score):
    """Fill in a tile: first layer's values, their products, hidden values and scores."""
    transposed, _, bias, vector, (offset, first, second) = layer
    n = len(source)
    for t in range(len(target)):
        for s in range(n):
            for k in range(source.shape[1]):
                value = source[s, k] + target[t, k]
                act[t * n + s, k] = value if value > 0 else first * value
    np.dot(act, transposed, raw)
    for m in range(len(raw)):
        total = offset
        for k in range(len(bias)):
            value = raw[m, k] + bias[k]
            value = value if value > 0 else second * value
            hidden[m, k] = value
            total += value * vector[k]
        score[m] = total


@_compile
@no_type_check
def _open_gates(score, n, skips, mode, gate):
    """Exponentials (mode 0) or sigmoids of the scores, 0 where a target step skips its source."""
    one = score.dtype.type(1)
    for m in range(0 if mode == 0 else len(score)):
        gate[m] = one / (one + np.exp(-score[m]))
    for t in range(len(score) // n if mode == 0 else 0):
        peak = score.dtype.type(-np.inf)
        for m in range(t * n, t * n + n):
            if m != skips[t]:
                peak = max(peak, score[m])
        for m in range(t * n, t * n + n):
            gate[m] = np.exp(score[m] - peak)
    for t in range(len(skips)):
        if skips[t] >= 0:
            gate[skips[t]] = 0


@_compile
@no_type_check
def _weigh(score, n, skips, mode, eps, gate, weights, divisor):
    """Weights of a tile, and for each target step the sum by which its gates were divided."""
    _open_gates(score, n, skips, mode, gate)
    for t in range(len(score) // n):
        total = score.dtype.type(eps)
        for m in range(t * n, t * n + n):
            total += gate[m]
        divisor[t] = 1 if mode == 2 else total
        inverse = 1 / divisor[t]
        for m in range(t * n, t * n + n):
            weights[m] = gate[m] * inverse


@_compile
@no_type_check
def _skips(order, n, start, stop):
    """Row of the tile at which target step t meets the source step `order` calls t; -1: none."""
    skips = np.full(stop - start, -1)
    for s in range(min(n, len(order))):
        if start <= order[s] < stop:
            skips[order[s] - start] = (order[s] - start) * n + s
    return skips


@_compile
@no_type_check
def _scratch(n_source, weight):
    """Room for a tile: first layer, products, hidden values; scores, gates, weights, divisors."""
    (h, d), new = weight.shape, weight.dtype
    rows = max(n_source, TILE // weight.size)
    act, raw, hidden = np.empty((rows, d), new), np.empty((rows, h), new), np.empty((rows, h), new)
    lines = np.empty((4, rows), new)
    return act, raw, hidden, lines[0], lines[1], lines[2], lines[3]


@_compile
@no_type_check
def pool_forward(pairs, order, mode, eps, source, target, layer, pooled, totals):
    """Add up weighted hidden values `[o t h]` and weights `[o t]` over pairs."""
    act, raw, hidden, score, gate, weights, divisor = _scratch(source.shape[1], layer[1])
    for p in range(len(pairs)):
        j, i, o, n = pairs[p]
        step = max(1, TILE // max(1, n * layer[1].size))
        for start in range(0, target.shape[1] if n else 0, step):
            block = target[i, start : start + step]
            m = len(block) * n
            _hide(source[j, :n], block, layer, act[:m], raw[:m], hidden, score)
            skips = _skips(order[j], n, start, start + len(block))
            _weigh(score[:m], n, skips, mode, eps, gate, weights, divisor)
            for t in range(len(block)):
                out, total = pooled[o, start + t], score.dtype.type(0)
                for row in range(t * n, t * n + n):
                    total += weights[row]
                    for k in range(len(out)):
                        out[k] += weights[row] * hidden[row, k]
                totals[o, start + t] += total


@_compile
@no_type_check
def _back_to_scores(by_pooled, by_total, n, mode, hidden, gate, weights, divisor, by_score):
    """Derivatives by the scores of a tile."""
    for t in range(len(by_score) // n):
        mean = by_score.dtype.type(0)
        for m in range(t * n, t * n + n):
            value = by_total[t]
            for k in range(hidden.shape[1]):
                value += hidden[m, k] * by_pooled[t, k]
            by_score[m] = value
            mean += weights[m] * value
        mean = 0 if mode == 2 else mean
        for m in range(t * n, t * n + n):
            slope = weights[m] if mode == 0 else gate[m] * (1 - gate[m]) / divisor[t]
            by_score[m] = slope * (by_score[m] - mean)


@_compile
@no_type_check
def _back_to_products(by_pooled, n, layer, weights, by_score, raw):
    """Overwrite the products of a tile by their derivatives; returns the slope's."""
    _, _, bias, vector, (_, _, slope) = layer
    by_slope = zero = raw.dtype.type(0)
    for t in range(len(raw) // n):
        for m in range(t * n, t * n + n):
            weight, change = weights[m], by_score[m]
            for k in range(len(bias)):
                value = raw[m, k] + bias[k]
                gradient = weight * by_pooled[t, k] + change * vector[k]
                by_slope += gradient * min(value, zero)
                raw[m, k] = gradient if value > 0 else slope * gradient
    return by_slope


@_compile
@no_type_check
def _back_to_inputs(source, target, slope, back, by_source, by_target):
    """Add a tile's derivatives by its sources and targets; returns the slope's."""
    by_slope = zero = back.dtype.type(0)
    n, d = source.shape
    for t in range(len(target)):
        for s in range(n):
            m = t * n + s
            for k in range(d):
                value = source[s, k] + target[t, k]
                by_slope += back[m, k] * min(value, zero)
                back[m, k] = back[m, k] if value > 0 else slope * back[m, k]
            for k in range(d):
                by_source[s, k] += back[m, k]
            for k in range(d):
                by_target[t, k] += back[m, k]
    return by_slope


@_compile
@no_type_check
def pool_backward(pairs, order, mode, eps, source, target, layer, by_out, by_inputs, by_layer):
    """Compute the tiles again; add up derivatives, from those by `pool_forward`'s results."""
    by_weight, by_bias, by_vector, by_scalars = by_layer
    product = np.empty_like(layer[1])
    act, raw, hidden, score, gate, weights, divisor = _scratch(source.shape[1], layer[1])
    back, room, ones = np.empty_like(act), np.empty_like(score), np.ones_like(score)
    for p in range(len(pairs)):
        j, i, o, n = pairs[p]
        step = max(1, TILE // max(1, n * layer[1].size))
        for start in range(0, target.shape[1] if n else 0, step):
            block = target[i, start : start + step]
            by_pooled, by_total = by_out[0][o, start:], by_out[1][o, start:]
            m = len(block) * n
            _hide(source[j, :n], block, layer, act[:m], raw[:m], hidden, score)
            skips = _skips(order[j], n, start, start + len(block))
            _weigh(score[:m], n, skips, mode, eps, gate, weights, divisor)
            by_score = room[:m]
            _back_to_scores(by_pooled, by_total, n, mode, hidden, gate, weights, divisor, by_score)
            by_scalars[2] += _back_to_products(by_pooled, n, layer, weights, by_score, raw[:m])
            np.dot(raw[:m].T, act[:m], product)
            np.dot(raw[:m], layer[1], back[:m])
            by_weight += product
            by_bias += np.dot(ones[:m], raw[:m])
            by_vector += np.dot(by_score, hidden[:m])
            by_scalars[0] += by_score.sum()
            by_scalars[1] += _back_to_inputs(
                source[j, :n], block, layer[4][1], back, by_inputs[0][j], by_inputs[1][i, start:]
            )
