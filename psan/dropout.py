"""Dropout that keeps no mask: the backward pass makes the same random numbers again.

Torch draws its own on a CPU with one thread (`results/speed/notes.md` says what that costs).
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from psan.compiled import BLOCK, RANDOM_VALUES, compiled, f32, random, row_seed
from psan.threads import in_threads, shares


@dataclass(frozen=True)
class Drop:
    """What is dropped: entries whose random number is below `below`; the others times `keep`."""

    seed: np.uint32
    below: np.uint32
    keep: np.float32

    @classmethod
    def draw(cls, probability: float) -> "Drop":
        """A new seed from torch's generator, or nothing to drop with a probability of 0.

        Raises:
            ValueError: a probability outside [0, 1).
        """
        if not 0 <= probability < 1:
            raise ValueError(f"dropout probability {probability} must be in [0, 1)")
        seed = int(torch.randint(RANDOM_VALUES, ())) if probability else 0
        below = min(round(probability * RANDOM_VALUES), RANDOM_VALUES - 1)
        return cls(np.uint32(seed), np.uint32(below), np.float32(1 / (1 - probability)))


def runs_on_kernels(*tensors: Tensor) -> bool:
    """Whether all of them are what the kernels take; otherwise torch's own operations serve."""
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)


def dropout(x: Float[Tensor, "*shape"], probability: float) -> Float[Tensor, "*shape"]:
    """Sets each entry to 0 with a probability, and scales the others so that the mean stays."""
    if probability == 0:
        return x
    if not runs_on_kernels(x):
        return F.dropout(x, probability)
    dropped: Tensor = _Dropout.apply(x, Drop.draw(probability))  # type: ignore[no-untyped-call]
    return dropped


def _dropped(x: Tensor, drop: Drop) -> Tensor:
    x = x.detach().contiguous()
    out = torch.empty_like(x)
    arguments = x.view(-1).numpy(), out.view(-1).numpy(), drop.seed, drop.below, drop.keep
    in_threads(
        shares(-(-x.numel() // BLOCK)),
        lambda _, first, last: _drop(first, last, *arguments),
    )
    return out


@compiled
@no_type_check
def _drop(first_block, last_block, x, out, seed, drop, keep):
    """Fills `out` with `keep · x`, or 0 where the random number is below `drop`; both `[m]`."""
    for block in range(first_block, last_block):
        own, start = row_seed(seed, block), block * BLOCK
        for j in range(min(BLOCK, len(x) - start)):
            value = x[start + j] * keep
            out[start + j] = value if random(own, j) >= drop else f32(0)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, drop: Drop) -> Tensor:
        ctx.drop = drop
        return _dropped(x, drop)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _dropped(grad, ctx.drop), None
