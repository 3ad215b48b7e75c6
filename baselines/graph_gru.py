"""Gated recurrent units whose products are graph convolutions: the block of GRIN and (Bi)MPGRU.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298.

The modules hold the parameters under their published names and shapes. The computation runs on
all directions of time at once (axis `k`: 1, or 2 for forward and backward) and on nodes before
batch, so that a graph convolution is one product with the stacked propagation matrices and the
map that follows is one product per direction.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Affine(NamedTuple):
    """A linear map per direction."""

    weight: Float[Tensor, "k i o"]
    bias: Float[Tensor, "k 1 o"]

    def __call__(self, x: Float[Tensor, "k n b i"]) -> Float[Tensor, "k n b o"]:
        """Map the last axis."""
        return torch.baddbmm(self.bias, x.flatten(1, 2), self.weight).view(*x.shape[:3], -1)


def affine(*layers: Sequence[nn.Module]) -> Affine:
    """One map from the same layer of every direction; several layers put their outputs in a row.

    Layers are linear maps or convolutions with kernels of size 1.
    """
    weights = [torch.stack([layer.weight.flatten(1) for layer in each], 0) for each in layers]
    biases = [torch.stack([layer.bias for layer in each], 0) for each in layers]
    return Affine(torch.cat(weights, 1).mT, torch.cat(biases, 1)[:, None])
