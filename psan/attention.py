"""Multi-head attention with one additive bias shared by every sample, step and head.

The bias is learned, so fused kernels that take a constant bias cannot be used on a CPU, and the
textbook formulation keeps a `b × t × h × n × n` tensor of weights (and one of dropout decisions)
for the backward pass: 90 MB a layer for 8 windows of 24 steps and 170 sensors. Here the weights
are made slice by slice, small enough for the cache, and made again in the backward pass. What is
kept is the output and one log-sum per query. The results are those of the textbook.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SLICE_ELEMENTS = 1 << 19
"""Attention weights computed at a time: 2 MB in float32, about a core's second-level cache."""

DROPOUT_LEVELS = 2**8
"""Dropout probabilities are rounded to a multiple of 1/256: a random byte decides on a weight."""


def biased_attention(
    query: Float[Tensor, "g n e"],
    key: Float[Tensor, "g n e"],
    value: Float[Tensor, "g n e"],
    bias: Float[Tensor, "n n"],
    dropout: float = 0.0,
) -> Float[Tensor, "g n e"]:
    """`dropout(softmax(query keyᵀ / √e + bias)) value` for each group `g` (sample × step × head).

    Args:
        query: what each node asks for, `e` features a head.
        key: what each node offers.
        value: what each node hands on.
        bias: added unscaled to the scores of every group; `bias[i, j]` is for query node `i` and
            key node `j`.
        dropout: probability with which a weight is dropped; 0 outside training.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    output: Tensor = _SlicedAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, bias, dropout
    )
    return output


def _slices(groups: int, nodes: int) -> Iterator[slice]:
    step = max(1, SLICE_ELEMENTS // (nodes * nodes))
    return (slice(start, min(start + step, groups)) for start in range(0, groups, step))


def _keep(shape: torch.Size, dropout: float, generator: torch.Generator) -> Tensor:
    """Random True for kept weights: 8 bits decide, drawn eight at a time from 64-bit numbers."""
    count = math.prod(shape)
    bits = torch.empty((count + 7) // 8, dtype=torch.int64)
    bits.random_(-(2**63), None, generator=generator)
    return (bits.view(torch.uint8)[:count] >= dropout * DROPOUT_LEVELS).view(shape)


class _SlicedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float
    ) -> Tensor:
        dropout = round(dropout * DROPOUT_LEVELS) / DROPOUT_LEVELS
        seed = int(torch.randint(2**62, ())) if dropout else 0
        generator = torch.Generator().manual_seed(seed)
        ctx.save_for_backward(query, key, value, bias)
        ctx.dropout, ctx.seed = dropout, seed
        output = torch.empty_like(value)
        value = value / (1 - dropout)
        for part in _slices(*query.shape[:2]):
            weights = _weights(query[part], key[part], bias)
            if dropout:
                weights *= _keep(weights.shape, dropout, generator)
            torch.bmm(weights, value[part], out=output[part])
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        query, key, value, bias = ctx.saved_tensors
        grad_query, grad_key, grad_value = map(torch.empty_like, (query, key, value))
        grad_bias = torch.zeros_like(bias)
        generator = torch.Generator().manual_seed(ctx.seed)
        grad_output = grad_output / (1 - ctx.dropout)
        for part in _slices(*query.shape[:2]):
            weights = dropped = _weights(query[part], key[part], bias)
            grad_weights = torch.bmm(grad_output[part], value[part].mT)
            if ctx.dropout:
                keep = _keep(weights.shape, ctx.dropout, generator)
                grad_weights *= keep
                dropped = weights * keep
            torch.bmm(dropped.mT, grad_output[part], out=grad_value[part])
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            torch.bmm(grad_scores, key[part], out=grad_query[part])
            torch.bmm(grad_scores.mT, query[part], out=grad_key[part])
            grad_bias += grad_scores.sum(0)
        scale = _scale(query)
        return grad_query.mul_(scale), grad_key.mul_(scale), grad_value, grad_bias, None


def _scale(query: Tensor) -> float:
    return 1 / math.sqrt(query.shape[-1])


def _weights(query: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    shared = bias.expand(len(query), *bias.shape)
    return torch.baddbmm(shared, query, key.mT, alpha=_scale(query)).softmax(-1)
