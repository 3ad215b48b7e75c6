"""Mixing the steps of each sensor's window, on a CPU: all of it in one pass over memory.

The operations of torch for the same each read and write the whole batch, and most of them twice in
a training step: convolutions as matrices of which half is zeros, gates, products, copies between
layouts. Here some windows at a time are taken into a core's cache; only `x` is kept for the
backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from psan import temporal_kernels
from psan.threads import in_threads, shares
from psan.tile import COLUMNS, ROWS, padded

_ZEROS = ROWS - 1  # before and after the taps


def mixed_steps(
    x: Float[Tensor, "t m d"],
    far_taps: Float[Tensor, "2 d t"],
    far_bias: Float[Tensor, "2 d"],
    gate_weight: Float[Tensor, "2 2 d 2"],
    gate_bias: Float[Tensor, "2 2 d"],
    near_taps: Float[Tensor, "2 d k"],
    weight: Float[Tensor, "4 d d"],
    constant: Float[Tensor, "d"],
) -> Float[Tensor, "t m d"]:
    """`x` and, per window, `constant + Σ weightₖ sourceₖ`.

    The first two sources are gated convolutions over the whole window, ahead and back in time, see
    `psan.gate`; the others convolutions over few steps, ahead and back, without a bias.

    Args:
        x: `m` windows of `t` steps.
        far_taps: ahead and back; tap `k` is of the step `k` steps away.
        far_bias: ahead and back.
        gate_weight: `[direction gate output input]`.
        gate_bias: `[direction gate output]`.
        near_taps: as `far_taps`.
        weight: `[source output input]`.
        constant: of each output.
    """
    d = x.shape[-1]
    wide = padded(d, COLUMNS) - d
    maps = torch.cat([gate_weight.mT, gate_bias[:, :, None]], dim=2).view(2, 6, d)
    taps = (F.pad(taps.mT, (0, wide, _ZEROS, _ZEROS)) for taps in (far_taps, near_taps))
    far, near = taps
    matrix = F.pad(weight.mT, (0, wide, 0, wide)).flatten(0, 1)
    mixed: Tensor = _Mix.apply(  # type: ignore[no-untyped-call]
        x,
        far,
        F.pad(far_bias, (0, wide)),
        F.pad(maps, (0, wide)),
        near,
        matrix,
        F.pad(constant, (0, wide))[None],
    )
    return mixed


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        inputs = tuple(part.detach().contiguous() for part in inputs)
        ctx.save_for_backward(*inputs[:-1])
        out = torch.empty_like(inputs[0])
        arguments = [part.numpy() for part in (*inputs, out)]
        in_threads(
            shares(_blocks(out)),
            lambda _, first, last: temporal_kernels.mix(first, last, *arguments),
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, ...]:
        inputs = ctx.saved_tensors
        x, far_taps, _, _, near_taps, weight = inputs
        given, grad_x = given.contiguous(), torch.empty_like(x)
        parts = shares(_blocks(x))
        shapes = [list(part.shape) for part in inputs[1:]]
        for shape in (shapes[0], shapes[3]):
            shape[1] = padded(shape[1] - 2 * _ZEROS, ROWS)
        shapes[4][0] = padded(len(weight), ROWS)
        sums = [x.new_zeros(len(parts), *shape) for shape in shapes]
        arguments = [part.numpy() for part in (*inputs, weight.T.contiguous(), given, grad_x)]
        in_threads(
            parts,
            lambda k, first, last: temporal_kernels.mix_backward(
                first, last, *arguments, *(part[k].numpy() for part in sums)
            ),
        )
        far, bias, of_maps, near, of_weight = (part.sum(0) for part in sums)
        of_taps = (
            F.pad(grad[:, : taps.shape[1] - 2 * _ZEROS], (0, 0, _ZEROS, _ZEROS))
            for grad, taps in ((far, far_taps), (near, near_taps))
        )
        of_far, of_near = of_taps
        constant = F.pad(given.sum((0, 1)), (0, weight.shape[1] - x.shape[2]))[None]
        return grad_x, of_far, bias, of_maps, of_near, of_weight[: len(weight)], constant


def _blocks(x: Tensor) -> int:
    return -(-x.shape[1] // temporal_kernels.BLOCK)
