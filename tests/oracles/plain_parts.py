"""What several of the plain oracles share: a masked error and a perceptron."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def masked_mae(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error where `mask` is True, whatever stands elsewhere; 0 if it is nowhere."""
    error = torch.where(mask, prediction - target, 0.0).abs()
    return error.sum() / mask.sum().clamp(min=1)


class Dense(nn.Module):
    """Linear map and activation."""

    def __init__(self, d_in: int, d_out: int, activation: type[nn.Module]):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(d_in, d_out), activation())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class MLP(nn.Module):
    """Dense layers of one width, then a linear map to `d_out`, if that is given."""

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: int | None = None,
        n_layers: int = 1,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        widths = [d_in] + [d_hidden] * n_layers
        self.mlp = nn.Sequential(*(Dense(a, b, activation) for a, b in pairwise(widths)))
        self.readout = nn.Identity() if d_out is None else nn.Linear(d_hidden, d_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.mlp(x))
