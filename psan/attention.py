"""Multi-head attention with one additive bias shared by every sample, step and head.

The bias is learned, so fused kernels that take a constant bias cannot be used on a CPU, and the
textbook formulation keeps a `b × t × h × n × n` tensor of weights (and one of dropout decisions)
for the backward pass: 90 MB a layer for 8 windows of 24 steps and 170 sensors. Here the weights
are made some rows at a time, few enough for the cache, and made again in the backward pass. What
is kept is the output and one log-sum per query. The results are those of the textbook.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from psan import attention_kernels
from psan.dropout import Drop, runs_on_kernels
from psan.threads import in_threads, shares
from psan.tile import COLUMNS, ROWS, padded


def biased_attention(
    projected: Float[Tensor, "g n 3 h e"], bias: Float[Tensor, "n n"], dropout: float = 0.0
) -> Float[Tensor, "g n h e"]:
    """`dropout(softmax(query keyᵀ / √e + bias)) value` for each group `g` (sample × step) and head.

    Args:
        projected: query, key and value of each node and head, `e` features each: what it asks for,
            what it offers and what it hands on.
        bias: added unscaled to the scores of every group and head; `bias[i, j]` is for query node
            `i` and key node `j`.
        dropout: probability with which a weight is dropped; 0 outside training.

    Raises:
        ValueError: a bias for another number of nodes, or a probability outside [0, 1).
    """
    nodes = projected.shape[1]
    if bias.shape != (nodes, nodes):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; {nodes} nodes need {(nodes, nodes)}")
    if runs_on_kernels(projected, bias):
        output: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
            projected, bias, Drop.draw(dropout)
        )
        return output
    query, key, value = projected.transpose(1, 3).unbind(2)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return mixed.transpose(1, 2)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, bias: Tensor, drop: Drop) -> Tensor:
        projected, bias = projected.detach().contiguous(), _padded(bias.detach())
        groups, nodes, _, heads, width = projected.shape
        output = projected.new_empty(groups, nodes, heads, width)
        log_sum = projected.new_empty(groups, heads, nodes)
        arguments = (*_arguments(projected, bias, drop), output.numpy(), log_sum.numpy())
        in_threads(
            shares(groups), lambda _, first, last: attention_kernels.attend(first, last, *arguments)
        )
        ctx.save_for_backward(projected, bias, output, log_sum)
        ctx.drop = drop
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        projected, bias, output, log_sum = ctx.saved_tensors
        grad = torch.empty_like(projected)
        parts = shares(len(grad))
        grad_bias = bias.new_zeros(len(parts), *bias.shape)
        arrays = (
            part.numpy() for part in (output, log_sum, given.contiguous(), grad.flatten(2, 3))
        )
        arguments = (*_arguments(projected, bias, ctx.drop), *arrays)
        in_threads(
            parts,
            lambda k, first, last: attention_kernels.attend_backward(
                first, last, *arguments, grad_bias[k].numpy()
            ),
        )
        nodes = projected.shape[1]
        return grad, grad_bias.sum(0)[:nodes, :nodes], None


def _padded(bias: Tensor) -> Tensor:
    """A bias with rows and columns for whole tiles, and no weight for keys that are not there.

    Its rows are an odd number of cache lines long: entries of a column are then in all of a
    cache's places, not in a few.
    """
    nodes = len(bias)
    rows, lines = padded(nodes, ROWS), padded(nodes, COLUMNS) // COLUMNS
    full = bias.new_full((rows, (lines | 1) * COLUMNS), -math.inf)
    full[:nodes, :nodes] = bias
    return full


def _arguments(projected: Tensor, bias: Tensor, drop: Drop) -> tuple[Any, ...]:
    """What both kernels begin with."""
    factor = np.float32(1 / math.sqrt(projected.shape[-1]))
    return projected.flatten(2, 3).numpy(), bias.numpy(), factor, drop.seed, drop.below, drop.keep
