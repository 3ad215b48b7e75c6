"""Dropout on a residual branch, with a mask that a CPU draws quickly."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16  # rates are rounded to multiples of 1 / LEVELS


def add_dropped(
    x: Float[Tensor, "*shape"], change: Float[Tensor, "*shape"], rate: float
) -> Float[Tensor, "*shape"]:
    """`x` plus `change`, of which each entry is dropped with probability `rate`, else scaled up.

    On a CPU four entries share a random number of 64 bits: PyTorch's own mask costs more there
    than a matrix product of width 128.
    """
    n_dropped = round(rate * LEVELS)
    if n_dropped == 0:
        return x + change
    if x.device.type != "cpu" or n_dropped == LEVELS:
        return x + F.dropout(change, rate)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    numbers.random_(torch.iinfo(torch.int64).min, None)
    levels = numbers.view(torch.int16)[: x.numel()].view(x.shape)  # -LEVELS / 2 … LEVELS / 2 - 1
    kept = torch.empty_like(x, requires_grad=False, memory_format=torch.contiguous_format)
    torch.ge(levels, n_dropped - LEVELS // 2, out=kept)
    return torch.addcmul(x, change, kept, value=LEVELS / (LEVELS - n_dropped))
