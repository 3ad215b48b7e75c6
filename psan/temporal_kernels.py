"""Compiled loops of `psan.temporal`.

Some sensors' windows at a time are worked on from beginning to end, few enough for a core's cache.
They lie in it as matrices `[steps × sensors, width]`, with a width of whole tiles; the parts of the
wide ones are those of far and near convolution, each ahead and back.
"""

from typing import no_type_check

import numpy as np

from psan.compiled import compiled, f32
from psan.gate_kernels import gate, gate_backward
from psan.tile import COLUMNS, ROWS, depthwise, padded, product

BLOCK = ROWS
"""Sensors' windows in the cache; as many as rows of a tile, so that no product has more."""


@compiled
@no_type_check
def _take(x, start, out):
    """Fills `out` `[steps × BLOCK, width]` with `x[:, start:]` `[t m d]`, zeros after its end."""
    t, m, d = x.shape
    for i in range(t):
        for p in range(BLOCK):
            for k in range(d):
                out[i * BLOCK + p, k] = x[i, start + p, k] if start + p < m else f32(0)


@compiled
@no_type_check
def _put(block, start, out):
    """The way back."""
    t, m, d = out.shape
    for i in range(t):
        for p in range(min(BLOCK, m - start)):
            for k in range(d):
                out[i, start + p, k] = block[i * BLOCK + p, k]


@compiled
@no_type_check
def _convolve(source, source_at, taps, ahead, base, base_at, base_row, out, out_at, steps):
    """Depthwise convolution: `base` and sums of `taps` and the steps ahead, or those before.

    Args:
        source: the series.
        source_at: its first column.
        taps: that of the step itself first, with `ROWS - 1` rows of zeros before and after.
        ahead: whether step `i` sees step `i + k` with tap `k`; otherwise it sees `i - k`.
        base: with `base_row` 0 one row, from entry `base_at` on; or as `out`, and may be it.
        base_at: not looked at in the second case.
        base_row: entries from one row of `base` to the next.
        out: filled, as many columns as `taps` has.
        out_at: the first of them.
        steps: in a window.
    """
    count, width = len(taps) - 2 * (ROWS - 1), taps.shape[1]
    source_row, out_row = source.shape[1] * BLOCK, out.shape[1] * BLOCK
    for i in range(0, steps, ROWS):
        if ahead:
            first, last = i, min(steps, i + count + ROWS - 1)
            tap, down, right = ROWS - 1, -width, width
        else:
            first, last = max(0, i - count + 1), min(steps, i + ROWS)
            tap, down, right = ROWS - 1 + i - first, width, -width
        for p in range(BLOCK):
            for j in range(0, width, COLUMNS):
                begin = i * out_row + p * out.shape[1] + out_at + j
                depthwise(
                    taps, tap * width + j, down, right,
                    source, first * source_row + p * source.shape[1] + source_at + j, source_row,
                    last - first,
                    base, begin if base_row else base_at + j, base_row * BLOCK,
                    out, begin, out_row,
                )  # fmt: skip


@compiled
@no_type_check
def _add_to_taps(earlier, earlier_at, later, later_at, grad, steps):
    """Adds to `grad[k]` the sums of `earlier[i] · later[i + k]` over steps and windows.

    Both have `ROWS - 1` steps of zeros at their end; `grad` has whole tiles.
    """
    width = grad.shape[1]
    for k in range(0, len(grad), ROWS):
        for j in range(0, width, COLUMNS):
            depthwise(
                later, k * BLOCK * later.shape[1] + later_at + j,
                BLOCK * later.shape[1], later.shape[1],
                earlier, earlier_at + j, earlier.shape[1], (steps - k) * BLOCK,
                grad, k * width + j, width, grad, k * width + j, width,
            )  # fmt: skip


@compiled
@no_type_check
def _sources(x, far_taps, near_taps, far_bias, zero, convolved, sources, t):
    """Convolutions of a block; near ones are ready for the last product."""
    width = x.shape[1]
    for k in range(2):
        at = k * width
        _convolve(x, 0, far_taps[k], k == 0, far_bias, at, 0, convolved, at, t)
        _convolve(x, 0, near_taps[k], k == 0, zero, 0, 0, sources, 2 * width + at, t)


@compiled
@no_type_check
def mix(first, last, x, far_taps, far_bias, maps, near_taps, weight, constant, out):
    """Fills `out` with `x`, what mixing its steps gives, and `constant`, see `psan.temporal`.

    Args:
        first: number of the first `BLOCK` windows.
        last: number after the last ones.
        x: `[t m d]`.
        far_taps: ahead and back `[2 t + 2 (ROWS - 1) width]`, see `_convolve`.
        far_bias: `[2 width]`.
        maps: of the gates `[2 6 width]`.
        near_taps: as `far_taps`, but fewer.
        weight: from far ahead, far back, near ahead, near back to the result `[4 width, width]`.
        constant: `[1 width]`.
        out: `[t m d]`.
    """
    t, _, d = x.shape
    width = weight.shape[1]
    row = 4 * width + COLUMNS  # its entries of a column are then in all places of the cache
    steps = padded(t, ROWS) + ROWS
    block, zero = np.zeros((steps * BLOCK, width), f32), np.zeros((1, width), f32)
    convolved = np.zeros((steps * BLOCK, 2 * width), f32)
    sources = np.zeros((steps * BLOCK, row), f32)
    mixed = np.zeros((steps * BLOCK, width), f32)
    for start in range(first * BLOCK, last * BLOCK, BLOCK):
        _take(x, start, block)
        _sources(block, far_taps, near_taps, far_bias, zero, convolved, sources, t)
        for k in range(2):
            at = k * width
            rest = (maps, 6 * at, width, convolved, at, 2 * width, sources, at, row, t * BLOCK)
            gate(block, 0, width, *rest, 0, d // 2)
            gate(convolved, at, 2 * width, *rest, d // 2, d // 2)
        product(
            sources, 0, row, 1, weight, 0, width, 4 * width,
            constant, 0, 0, mixed, 0, width, t * BLOCK, width,
        )  # fmt: skip
        for i in range(t * BLOCK):
            for j in range(d):
                mixed[i, j] += block[i, j]
        _put(mixed, start, out)


@compiled
@no_type_check
def mix_backward(
    first, last, x, far_taps, far_bias, maps, near_taps, weight, turned,
    given, grad_x, grad_far_taps, grad_far_bias, grad_maps, grad_near_taps, grad_weight,
):  # fmt: skip
    """Gradients of `mix`; what the convolutions and gates gave is made again.

    Args:
        first: as for `mix`, and so are the next six.
        last: number after the last windows.
        x: the series.
        far_taps: of the far convolutions.
        far_bias: of the far convolutions.
        maps: of the gates.
        near_taps: of the near convolutions.
        weight: of the last product; only its shape counts.
        turned: the same transposed `[width, 4 width]`.
        given: gradient of the output `[t m d]`.
        grad_x: filled `[t m d]`.
        grad_far_taps: to which this is added, like to all that follow; whole tiles without the
            zeros before and after.
        grad_far_bias: `[2 width]`.
        grad_maps: `[2 6 width]`.
        grad_near_taps: as `grad_far_taps`.
        grad_weight: whole tiles `[rows width]`.
    """
    t, _, d = x.shape
    width = weight.shape[1]
    row = 4 * width + COLUMNS  # its entries of a column are then in all places of the cache
    steps = padded(t, ROWS) + ROWS
    block, zero = np.zeros((steps * BLOCK, width), f32), np.zeros((1, 4 * width), f32)
    convolved = np.zeros((steps * BLOCK, 2 * width), f32)
    sources = np.zeros((steps * BLOCK, row), f32)
    slope, to_block = np.zeros_like(block), np.zeros_like(block)
    to_sources, to_convolved = np.zeros_like(sources), np.zeros_like(convolved)
    for start in range(first * BLOCK, last * BLOCK, BLOCK):
        _take(x, start, block)
        _take(given, start, slope)
        _sources(block, far_taps, near_taps, far_bias, zero, convolved, sources, t)
        product(
            slope, 0, width, 1, turned, 0, 4 * width, width,
            zero, 0, 0, to_sources, 0, row, t * BLOCK, 4 * width,
        )  # fmt: skip
        for i in range(t * BLOCK):
            for j in range(width):
                to_block[i, j] = slope[i, j]  # the residual
            for j in range(2 * width):
                to_convolved[i, j] = 0
        for k in range(2):
            at = k * width
            rest = (
                maps, 6 * at, width, convolved, at, 2 * width, sources, at, row,
                to_sources, at, row,
            )  # fmt: skip
            gate_backward(
                block, 0, width, *rest, to_block, 0, to_convolved, at, grad_maps,
                t * BLOCK, 0, d // 2,
            )  # fmt: skip
            gate_backward(
                convolved, at, 2 * width, *rest, to_convolved, at, to_convolved, at, grad_maps,
                t * BLOCK, d // 2, d // 2,
            )  # fmt: skip
        for i in range(t * BLOCK):
            for k in range(2):
                for j in range(width):
                    grad_far_bias[k, j] += to_convolved[i, k * width + j]
        product(
            sources, 0, 1, row, slope, 0, width, t * BLOCK,
            grad_weight, 0, width, grad_weight, 0, width, len(grad_weight), width,
        )  # fmt: skip
        for k in range(2):
            far, near = k * width, (2 + k) * width
            _convolve(to_convolved, far, far_taps[k], k == 1, to_block, 0, width, to_block, 0, t)
            _convolve(to_sources, near, near_taps[k], k == 1, to_block, 0, width, to_block, 0, t)
        _add_to_taps(to_convolved, 0, block, 0, grad_far_taps[0], t)
        _add_to_taps(block, 0, to_convolved, width, grad_far_taps[1], t)
        _add_to_taps(to_sources, 2 * width, block, 0, grad_near_taps[0], t)
        _add_to_taps(block, 0, to_sources, 3 * width, grad_near_taps[1], t)
        _put(to_block, start, grad_x)
