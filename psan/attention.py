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

from psan import kernels
from psan.dropout import Drop, runs_on_kernels

SLICE_ELEMENTS = 1 << 21
"""Attention weights computed at a time: 8 MB, enough to occupy every core with one call."""


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
    """
    if runs_on_kernels(projected, bias):
        output: Tensor = _SlicedAttention.apply(  # type: ignore[no-untyped-call]
            projected, bias, Drop.draw(dropout)
        )
        return output
    query, key, value = projected.transpose(1, 3).unbind(2)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    return mixed.transpose(1, 2)


def _slices(groups: int, nodes: int, heads: int) -> Iterator[tuple[int, slice, int]]:
    """Head, groups and a number for the random numbers of each slice."""
    step = max(1, SLICE_ELEMENTS // (nodes * nodes))
    for head in range(heads):
        for start in range(0, groups, step):
            yield head, slice(start, min(start + step, groups)), head * groups + start


class _SlicedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, bias: Tensor, drop: Drop) -> Tensor:
        kernels.use_torch_threads()
        groups, nodes, _, heads, _ = projected.shape
        projected, bias = projected.detach().contiguous(), bias.detach().contiguous()
        query, key, value = projected.unbind(2)
        output = torch.empty_like(value)
        log_sum = projected.new_empty(heads, groups, nodes)
        scale = torch.empty_like(log_sum)
        weights = _buffer(projected)
        for head, part, first in _slices(groups, nodes, heads):
            slice_weights = _scores(query, key, head, part, weights)
            kernels.attention_weights(
                slice_weights.numpy(), bias.numpy(), scale[head, part].numpy(),
                log_sum[head, part].numpy(), first, drop.seed, drop.below,
            )  # fmt: skip
            output[part, :, head] = slice_weights @ value[part, :, head]
        output *= scale.mul_(float(drop.keep)).permute(1, 2, 0)[..., None]
        ctx.save_for_backward(projected, bias, output, log_sum)
        ctx.drop = drop
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        kernels.use_torch_threads()
        projected, bias, output, log_sum = ctx.saved_tensors
        drop: Drop = ctx.drop
        groups, nodes, _, heads, _ = projected.shape
        query, key, value = projected.unbind(2)
        grad = torch.empty_like(projected)
        grad_query, grad_key, grad_value = grad.unbind(2)
        grad_bias = bias.new_zeros(torch.get_num_threads(), nodes, nodes)
        weighted = (grad_output * output).sum(-1).permute(2, 0, 1).contiguous()
        weights, slopes = _buffer(projected), _buffer(projected)
        for head, part, first in _slices(groups, nodes, heads):
            given = grad_output[part, :, head]
            slice_weights = _scores(query, key, head, part, weights)
            grad_scores = slopes[: len(given)]
            torch.bmm(given, value[part, :, head].mT, out=grad_scores)
            kernels.attention_weights_backward(
                slice_weights.numpy(), grad_scores.numpy(), bias.numpy(),
                log_sum[head, part].numpy(), weighted[head, part].numpy(), grad_bias.numpy(),
                first, drop.seed, drop.below, drop.keep,
            )  # fmt: skip
            grad_value[part, :, head] = slice_weights.mT @ given
            grad_query[part, :, head] = grad_scores @ key[part, :, head]
            grad_key[part, :, head] = grad_scores.mT @ query[part, :, head]
        grad[:, :, :2] *= _scale(query)
        return grad, grad_bias.sum(0), None


def _buffer(projected: Tensor) -> Tensor:
    groups, nodes = projected.shape[:2]
    step = max(1, SLICE_ELEMENTS // (nodes * nodes))
    return projected.new_empty(min(step, groups), nodes, nodes)


def _scale(projected: Tensor) -> float:
    return 1 / math.sqrt(projected.shape[-1])


def _scores(query: Tensor, key: Tensor, head: int, part: slice, buffer: Tensor) -> Tensor:
    """Scaled products of queries and keys, written into `buffer`."""
    asked, offered = query[part, :, head], key[part, :, head]
    scores = buffer[: len(asked)]
    return torch.baddbmm(scores, asked, offered.mT, beta=0, alpha=_scale(query), out=scores)
