"""Gated recurrent units built of graph convolutions: the state update of GRIN and (Bi)MPGRU.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298.

The modules only hold parameters, under their published names and shapes. `GraphGRU` computes with
them: all directions of time at once (axis `k`: 1, or 2 for forward and backward), nodes before
the batch. A graph convolution is then one product with the stacked propagation matrices and one
product per direction with the weights, and both gates of a cell share it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

NORM_EPS = 1e-5  # of the published code: PyTorch's default


class SpatialConv(nn.Module):
    """Weights of a graph convolution: one map of `n_blocks` propagated copies of the input."""

    def __init__(self, n_in: int, n_out: int, n_blocks: int) -> None:
        super().__init__()
        self.mlp = nn.Conv2d(n_blocks * n_in, n_out, kernel_size=1)


class GCGRUCell(nn.Module):
    """Weights of one cell; its convolutions reach `kernel_size` hops both ways, and the node."""

    def __init__(self, n_in: int, d_hidden: int, kernel_size: int) -> None:
        super().__init__()
        n_blocks = 2 * kernel_size + 1
        self.forget_gate = SpatialConv(n_in + d_hidden, d_hidden, n_blocks)
        self.update_gate = SpatialConv(n_in + d_hidden, d_hidden, n_blocks)
        self.c_gate = SpatialConv(n_in + d_hidden, d_hidden, n_blocks)


@dataclass(frozen=True)
class StackSizes:
    """Sizes of one direction's stacked cells."""

    n_nodes: int
    n_in: int  # what is read at a node and step
    d_hidden: int
    n_layers: int
    kernel_size: int  # hops of the graph convolutions
    layer_norm: bool
    dropout: float  # between layers


class GCGRUStack(nn.Module):
    """Parameters of the stacked cells of one direction, and of their first states."""

    def __init__(self, sizes: StackSizes) -> None:
        super().__init__()
        self.sizes = sizes
        d_hidden = sizes.d_hidden
        inputs = [sizes.n_in] + [d_hidden] * (sizes.n_layers - 1)
        self.cells = nn.ModuleList(GCGRUCell(n_in, d_hidden, sizes.kernel_size) for n_in in inputs)
        self.norms = nn.ModuleList(
            nn.GroupNorm(1, d_hidden, eps=NORM_EPS) for _ in inputs if sizes.layer_norm
        )
        self.h0 = nn.ParameterList(
            nn.Parameter(torch.randn(d_hidden, sizes.n_nodes) * d_hidden**-0.5) for _ in inputs
        )


@dataclass(frozen=True)
class Affine:
    """A linear map per direction."""

    weight: Float[Tensor, "k i o"]
    bias: Float[Tensor, "k 1 o"]

    def __call__(self, x: Float[Tensor, "k n b i"]) -> Float[Tensor, "k n b o"]:
        """Map the last axis."""
        return torch.baddbmm(self.bias, x.flatten(1, 2), self.weight).view(*x.shape[:3], -1)


def stacked(directions: Sequence[nn.Module], name: str) -> Float[Tensor, "k ..."]:
    """The parameter called `name` of every direction."""
    return torch.stack([direction.get_parameter(name) for direction in directions])


def affine(directions: Sequence[nn.Module], *layers: str) -> Affine:
    """The layer of that name of every direction as one map.

    A layer is linear, or a convolution of kernel size 1. The outputs of several follow each other.
    """
    weights = [stacked(directions, f"{layer}.weight").flatten(2) for layer in layers]
    biases = [stacked(directions, f"{layer}.bias") for layer in layers]
    return Affine(torch.cat(weights, 1).mT, torch.cat(biases, 1)[:, None])


def prelu(x: Float[Tensor, "k n b d"], slope: Float[Tensor, "k 1"]) -> Float[Tensor, "k n b d"]:
    """Rectify, with a slope per direction below zero."""
    return x.where(x > 0, slope[:, :, None, None] * x)


def both_ways(adjacency: Float[Tensor, "n n"]) -> Float[Tensor, "2 n n"]:
    """Row-normalised weights along the edges and against them; zero rows for lonely nodes."""
    pair = torch.stack([adjacency, adjacency.T])
    return pair / (pair.sum(2, keepdim=True) + 1e-8)


def hops(matrices: Float[Tensor, "s n n"], order: int) -> Float[Tensor, "p n n"]:
    """Powers 1 … `order` of every matrix, those of the first matrix first."""
    powers = [matrices]
    for _ in range(order - 1):
        powers.append(powers[-1] @ matrices)
    return torch.stack(powers, 1).flatten(0, 1)


def propagate(
    matrices: Float[Tensor, "p n n"], x: Float[Tensor, "k n b i"], *, include_self: bool
) -> Float[Tensor, "k n b pi"]:
    """The input (if `include_self`) and its products with every matrix, side by side."""
    directions, nodes, batch, width = x.shape
    stacked = matrices.flatten(0, 1).expand(directions, -1, -1)
    spread = (stacked @ x.flatten(2)).view(directions, -1, nodes, batch, width)
    return torch.cat([*([x] if include_self else []), *spread.unbind(1)], -1)


class GraphGRU:
    """The cells of all directions, ready to be stepped through time."""

    def __init__(self, stacks: Sequence[GCGRUStack], supports: Float[Tensor, "2 n n"]) -> None:
        """Gather the weights, once per pass.

        Args:
            stacks: one per direction, of equal sizes.
            supports: normalised adjacency, along and against the edges.
        """
        self.stacks, self.sizes = stacks, stacks[0].sizes
        self.matrices = hops(supports, self.sizes.kernel_size)
        cells = [f"cells.{layer}" for layer in range(self.sizes.n_layers)]
        self.gates = [
            affine(stacks, f"{cell}.forget_gate.mlp", f"{cell}.update_gate.mlp") for cell in cells
        ]
        self.candidates = [affine(stacks, f"{cell}.c_gate.mlp") for cell in cells]

    def start(self, batch: int) -> list[Float[Tensor, "k n b d"]]:
        """The learned states before the first step, one per layer."""
        return [
            stacked(self.stacks, f"h0.{layer}").mT[:, :, None].expand(-1, -1, batch, -1)
            for layer in range(self.sizes.n_layers)
        ]

    def step(
        self, x: Float[Tensor, "k n b i"], states: list[Float[Tensor, "k n b d"]]
    ) -> list[Float[Tensor, "k n b d"]]:
        """States of all layers after reading `x`; a layer's input is the new state below it."""
        updated = []
        for layer, state in enumerate(states):
            if layer:
                x = nn.functional.dropout(x, self.sizes.dropout, self.stacks[0].training)
            x = self._normalise(layer, self._cell(layer, x, state))
            updated.append(x)
        return updated

    def _cell(
        self, layer: int, x: Float[Tensor, "k n b i"], h: Float[Tensor, "k n b d"]
    ) -> Float[Tensor, "k n b d"]:
        gates = self.gates[layer](self._neighbourhood(x, h)).sigmoid()
        reset, keep = gates.chunk(2, -1)
        candidate = self.candidates[layer](self._neighbourhood(x, reset * h)).tanh()
        return torch.addcmul(candidate, keep, h - candidate)

    def _neighbourhood(
        self, x: Float[Tensor, "k n b i"], h: Float[Tensor, "k n b d"]
    ) -> Float[Tensor, "k n b j"]:
        return propagate(self.matrices, torch.cat([x, h], -1), include_self=True)

    def _normalise(self, layer: int, h: Float[Tensor, "k n b d"]) -> Float[Tensor, "k n b d"]:
        """Normalise over nodes and width together, if the stacks do."""
        if not self.sizes.layer_norm:
            return h
        weight = stacked(self.stacks, f"norms.{layer}.weight")[:, None, None]
        bias = stacked(self.stacks, f"norms.{layer}.bias")[:, None, None]
        variance, mean = torch.var_mean(h, (1, 3), correction=0, keepdim=True)
        return (h - mean) * torch.rsqrt(variance + NORM_EPS) * weight + bias
