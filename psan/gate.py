"""The gate that joins the global convolution with what went into it."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from psan import gate_kernels
from psan.compiled import BLOCK
from psan.dropout import runs_on_kernels
from psan.threads import in_threads, shares


def gated(
    x: Float[Tensor, "d m"],
    o: Float[Tensor, "d 2 m"],
    weight: Float[Tensor, "2 2 d 2"],
    bias: Float[Tensor, "2 2 d"],
) -> Float[Tensor, "d 2 m"]:
    """`s ⊙ o + (1 - s) ⊙ v` for both directions of time, with gates `s` and `v` of `[x; o]`.

    Gates are logistic functions of grouped maps: output `i` sees inputs `2i` and `2i + 1` of
    `[x; o]` only, so the first half depends on `x` alone and the second half on `o` alone.

    Args:
        x: the series, features first.
        o: its convolutions, one for each direction.
        weight: `[direction gate output input]`.
        bias: `[direction gate output]`.

    Raises:
        ValueError: shapes that do not belong together.
    """
    d, m = x.shape
    if d % 2 or o.shape != (d, 2, m) or weight.shape != (2, 2, d, 2) or bias.shape != (2, 2, d):
        raise ValueError(
            f"x {tuple(x.shape)} needs an even first size, and o {(d, 2, m)}, weight "
            f"{(2, 2, d, 2)}, bias {(2, 2, d)}; got {tuple(o.shape)}, {tuple(weight.shape)}, "
            f"{tuple(bias.shape)}"
        )
    if runs_on_kernels(x, o, weight, bias):
        result: Tensor = _Gate.apply(x, o, weight, bias)  # type: ignore[no-untyped-call]
        return result
    both = torch.cat([x[:, None].expand_as(o), o])  # [2d direction m]
    pairs = both.view(len(x), 2, *o.shape[1:])  # [d 2 direction m]
    gates = torch.einsum("kgdi,dikm->gdkm", weight, pairs) + bias.permute(1, 2, 0)[..., None]
    share, candidate = gates.sigmoid().unbind(0)
    return torch.lerp(candidate, o.to(share.dtype), share)  # autocast makes them differ


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, o: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inputs = tuple(part.detach().contiguous() for part in (x, o, weight, bias))
        ctx.save_for_backward(*inputs)
        out = torch.empty_like(inputs[1])
        arguments = [part.numpy() for part in (*inputs, out)]
        in_threads(
            shares(_blocks(x)), lambda _, first, last: gate_kernels.gate(first, last, *arguments)
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, o, weight, bias = ctx.saved_tensors
        grad_x, grad_o = torch.empty_like(x), torch.empty_like(o)
        sums = np.empty((_blocks(x), *bias.shape, 3), dtype=np.float32)
        parts = (x, o, weight, bias, grad.contiguous(), grad_x, grad_o)
        arguments = (*(part.numpy() for part in parts), sums)
        in_threads(
            shares(len(sums)),
            lambda _, first, last: gate_kernels.gate_backward(first, last, *arguments),
        )
        of_gates = torch.from_numpy(sums.sum(0))
        return grad_x, grad_o, of_gates[..., :2], of_gates[..., 2]


def _blocks(x: Tensor) -> int:
    """Blocks of columns; each is one thread's."""
    return -(-x.shape[1] // BLOCK)
