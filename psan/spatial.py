"""A layer of attention over sensors and its feed-forward part, on a CPU: one pass over memory.

The textbook's formulation keeps a `b × t × h × n × n` tensor of weights (and one of dropout
decisions) for the backward pass: 90 MB a layer for 8 windows of 24 steps and 170 sensors, and each
of its operations reads and writes the whole batch. Here a sample at one step is taken into a core's
cache, weights are made some rows at a time, and made again in the backward pass. What is kept are
tensors as long as `x`, and one log-sum per query and head.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from psan import spatial_kernels
from psan.attention_kernels import LOG2_E
from psan.dropout import Drop
from psan.threads import in_threads, shares
from psan.tile import COLUMNS, ROWS, padded


def related_sensors(
    x: Float[Tensor, "g n d"],
    similarity: Float[Tensor, "n n"],
    qkv: Float[Tensor, "d 3*d"],
    maps: Float[Tensor, "3 d d"],
    vectors: Float[Tensor, "6 d"],
    heads: int,
    dropout: float,
) -> Float[Tensor, "g n d"]:
    """`norm(y + dropout(relu(y W₂ + b₂) W₃ + b₃))` with `y = norm(x + dropout(attention(x) W₁))`.

    Attention is `dropout(softmax(query keyᵀ / √e + similarity)) value` for each group `g` (sample ×
    step) and head, of `e` features.

    Args:
        x: features of each sensor.
        similarity: added unscaled to the scores of every group and head; `similarity[i, j]` is for
            query sensor `i` and key sensor `j`.
        qkv: maps `x` to queries, keys and values, each head by head.
        maps: `W₁`, `W₂`, `W₃`, each from its rows to its columns.
        vectors: `b₂`, `b₃`, scale and shift of the first norm, then of the second.
        heads: number of heads.
        dropout: probability; 0 outside training.

    Raises:
        ValueError: a similarity of another number of sensors, or a probability outside [0, 1).
    """
    n, d = x.shape[1:]
    if similarity.shape != (n, n):
        raise ValueError(f"similarity {tuple(similarity.shape)} does not fit {n} sensors")
    wide = padded(d, COLUMNS) - d
    drops = [Drop.draw(dropout) for _ in range(3)]
    related: Tensor = _Relate.apply(  # type: ignore[no-untyped-call]
        x, similarity, qkv, maps, F.pad(vectors, (0, wide)), heads, drops, torch.is_grad_enabled()
    )
    return related


class _Relate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, similarity: Tensor, qkv: Tensor, maps: Tensor, vectors: Tensor,
        heads: int, drops: list[Drop], keeps: bool,
    ) -> Tensor:  # fmt: skip
        x, bias, vectors = (
            x.detach().contiguous(),
            padded_bias(similarity.detach()),
            vectors.detach(),
        )
        g, n, d = x.shape
        out = torch.empty_like(x)
        g = g if keeps else 0
        shapes = (g, n, 3 * d), (g, n, d), (g, heads, n), (g, n, d), (g, 2, n, d), (g, 2, n)
        kept = [x.new_empty(shape) for shape in shapes]
        numbers = _numbers(d, heads, drops)
        arrays = [part.numpy() for part in (x, bias, _wide(qkv), _wide(maps), vectors)]
        results = [part.numpy() for part in (out, *kept)]
        in_threads(
            shares(len(x)),
            lambda _, first, last: spatial_kernels.relate(first, last, *arrays, *numbers, *results),
        )
        ctx.save_for_backward(x, bias, qkv, maps, vectors, *kept)
        ctx.numbers = numbers
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        x, bias, qkv, maps, vectors, *kept = ctx.saved_tensors
        (_, n, d), width = x.shape, vectors.shape[1]
        grad, parts = torch.empty_like(x), shares(len(x))
        rows = padded(d, ROWS)
        shapes = bias.shape, (rows, padded(3 * d, COLUMNS)), (3, rows, width), vectors.shape
        sums = [x.new_zeros(len(parts), *shape) for shape in shapes]
        before = [part.numpy() for part in (x, bias, _wide(qkv.mT), _wide(maps.mT), vectors)]
        after = [part.numpy() for part in (*kept, given.contiguous(), grad)]
        in_threads(
            parts,
            lambda k, first, last: spatial_kernels.relate_backward(
                first, last, *before, *ctx.numbers, *after, *(part[k].numpy() for part in sums)
            ),
        )
        of_bias, of_qkv, of_maps, of_vectors = (part.sum(0) for part in sums)
        shared = of_bias[:n, :n], of_qkv[:d, : 3 * d], of_maps[:, :d, :d], of_vectors
        return grad, *shared, None, None, None


def _numbers(d: int, heads: int, drops: list[Drop]) -> tuple[Any, ...]:
    """Numbers of heads and of dropout, as both kernels take them."""
    factor = np.float32(1 / math.sqrt(d // heads))
    seeds = np.array([drop.seed for drop in drops], dtype=np.uint32)
    return heads, factor, seeds, drops[0].below, drops[0].keep


def _wide(matrix: Tensor) -> Tensor:
    """Matrices with whole tiles of columns."""
    columns = matrix.shape[-1]
    return F.pad(matrix.detach(), (0, padded(columns, COLUMNS) - columns)).contiguous()


def padded_bias(bias: Tensor) -> Tensor:
    """A bias for powers of two, with whole tiles, and no weight for keys that are not there.

    Its rows are an odd number of cache lines long: entries of a column are then in all of a
    cache's places, not in a few.
    """
    nodes = len(bias)
    rows, lines = padded(nodes, ROWS), padded(nodes, COLUMNS) // COLUMNS
    full = bias.new_full((rows, (lines | 1) * COLUMNS), -math.inf)
    full[:nodes, :nodes] = LOG2_E * bias
    return full
