"""Compiled loops of `psan.gate`."""

from typing import no_type_check

from psan.compiled import BLOCK, compiled, exp, f32, inlined


@inlined
@no_type_check
def _sigmoid(z):
    small = exp(-abs(z))
    return (f32(1) if z >= 0 else small) / (f32(1) + small)


@inlined
@no_type_check
def _maps(weight, bias, i):
    """Two weights and the bias of both gates of output `i`: numbers, which no row can overlap."""
    share = weight[0, i, 0], weight[0, i, 1], bias[0, i]
    return *share, weight[1, i, 0], weight[1, i, 1], bias[1, i]


@compiled
@no_type_check
def _gate_row(y, z, own, maps, out):
    a, b, p, c, e, q = maps
    for j in range(len(out)):
        s, v = _sigmoid(a * y[j] + b * z[j] + p), _sigmoid(c * y[j] + e * z[j] + q)
        out[j] = v + s * (own[j] - v)


@compiled
@no_type_check
def _back_to_inputs(y, z, own, maps, given, to_y, to_z):
    """Adds the gradients of an output to those of its two inputs; returns its maps'."""
    a, b, p, c, e, q = maps
    sa = sb = sp = sc = se = sq = f32(0)
    for j in range(len(own)):
        s, v = _sigmoid(a * y[j] + b * z[j] + p), _sigmoid(c * y[j] + e * z[j] + q)
        to_s = given[j] * (own[j] - v) * s * (f32(1) - s)
        to_v = given[j] * (f32(1) - s) * v * (f32(1) - v)
        sa += to_s * y[j]
        sb += to_s * z[j]
        sp += to_s
        sc += to_v * y[j]
        se += to_v * z[j]
        sq += to_v
        to_y[j] += a * to_s + c * to_v
        to_z[j] += b * to_s + e * to_v
    return sa, sb, sp, sc, se, sq


@compiled
@no_type_check
def _back_to_own(y, z, maps, given, to_own):
    a, b, p, _, _, _ = maps
    for j in range(len(given)):
        to_own[j] += given[j] * _sigmoid(a * y[j] + b * z[j] + p)


@compiled
@no_type_check
def gate(first_block, last_block, x, o, weight, bias, out):
    """Fills some columns of `out` with `s ⊙ o + (1 - s) ⊙ v`, see `psan.gate`.

    Args:
        first_block: number of the first `BLOCK` columns.
        last_block: number after the last ones.
        x: `[d m]`.
        o: a part for each direction `[d 2 m]`.
        weight: `[direction gate d 2]`.
        bias: `[direction gate d]`.
        out: `[d 2 m]`.
    """
    d, m = x.shape
    for block in range(first_block, last_block):
        here = slice(block * BLOCK, min((block + 1) * BLOCK, m))
        for i in range(d):
            pair = 2 * (i % (d // 2))
            for k in range(2):
                y = x[pair, here] if i < d // 2 else o[pair, k, here]
                z = x[pair + 1, here] if i < d // 2 else o[pair + 1, k, here]
                maps = _maps(weight[k], bias[k], i)
                _gate_row(y, z, o[i, k, here], maps, out[i, k, here])


@compiled
@no_type_check
def gate_backward(first_block, last_block, x, o, weight, bias, grad, grad_x, grad_o, sums):
    """Gradients of `gate`.

    Args:
        first_block: as for `gate`.
        last_block: as for `gate`.
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
    for block in range(first_block, last_block):
        here = slice(block * BLOCK, min((block + 1) * BLOCK, m))
        grad_x[:, here] = 0
        grad_o[:, :, here] = 0
        for i in range(d):
            pair = 2 * (i % (d // 2))
            for k in range(2):
                of_x, given = i < d // 2, grad[i, k, here]
                y = x[pair, here] if of_x else o[pair, k, here]
                z = x[pair + 1, here] if of_x else o[pair + 1, k, here]
                to_y = grad_x[pair, here] if of_x else grad_o[pair, k, here]
                to_z = grad_x[pair + 1, here] if of_x else grad_o[pair + 1, k, here]
                maps = _maps(weight[k], bias[k], i)
                found = _back_to_inputs(y, z, o[i, k, here], maps, given, to_y, to_z)
                sums[block, k, 0, i] = found[:3]
                sums[block, k, 1, i] = found[3:]
                _back_to_own(y, z, maps, given, grad_o[i, k, here])
