"""The part of additive attention that is computed per pair of steps, in bounded memory.

See `baselines.additive_attention` for the equations.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from baselines.pair_compiled import compiled_backward, compiled_forward
from baselines.pair_plan import L1_EPS, SOFTMAX_EPS, PairPlan

REWEIGHTS = ("softmax", "l1", "none")

COMPILED = True  # on a CPU, for one Dense layer, use `baselines.pair_compiled`
# Batched products of fewer source steps than this are slower than products element by element.
MIN_STEPS_MATMUL = 14


def _weights(
    score: Tensor, excluded: Tensor | None, reweight: str
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Weights `[p t s]` of scores, the sigmoid and the sum by which they were divided."""
    if reweight == "softmax":
        if excluded is not None:
            score = score.masked_fill(excluded, -torch.inf)
        peak = score.amax(-1, keepdim=True)
        e = torch.exp(score - peak.masked_fill(peak.isinf(), 0.0))
        total = e.sum(-1, keepdim=True) + SOFTMAX_EPS
        return e / total, None, None
    gate = torch.sigmoid(score)
    kept = gate if excluded is None else gate.masked_fill(excluded, 0.0)
    if reweight == "none":
        return kept, gate, None
    total = kept.sum(-1, keepdim=True) + L1_EPS
    return kept / total, gate, total


@dataclass
class _Chunk:
    """Forward values of one chunk; p pairs, t target steps, s source steps."""

    inputs: list[Tensor]  # values before each PReLU, [p t s d] then [p t s h]; empty in forward
    outputs: list[Tensor]  # values after each PReLU; the last one is the hidden layer
    weights: Tensor  # [p t s]
    gate: Tensor | None
    total: Tensor | None
    excluded: Tensor | None

    @property
    def hidden(self) -> Tensor:
        return self.outputs[-1]


def _compute(
    plan: PairPlan,
    reweight: str,
    pairs: slice,
    n_source: int,
    tensors: tuple[Tensor, ...],
    slopes: list[float],
    keep: bool,
) -> _Chunk:
    """Hidden values and weights of one chunk; `keep` what the derivative needs."""
    source, target, score, offset, _, *layers = tensors
    pre = (
        source[plan.source_rows[pairs], None, :n_source] + target[plan.target_rows[pairs], :, None]
    )
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for k, slope in enumerate(slopes):
        if k:
            weight, bias = layers[3 * k - 3 : 3 * k - 1]
            pre = F.linear(outputs[-1], weight, bias)
        if keep:
            inputs.append(pre)
            outputs.append(F.leaky_relu(pre, slope))
        else:
            outputs = [F.leaky_relu_(pre, slope)]
    excluded = plan.excluded(pairs, n_source, target.shape[1])
    weights, gate, total = _weights(outputs[-1] @ score + offset, excluded, reweight)
    return _Chunk(inputs, outputs, weights, gate, total, excluded)


def _score_gradient(chunk: _Chunk, reweight: str, grad_weights: Tensor) -> Tensor:
    """Derivative by the scores `[p t s]`, given the one by the weights (fresh, overwritten)."""
    if reweight == "none":
        grad = grad_weights
    else:
        mean = (chunk.weights * grad_weights).sum(-1, keepdim=True)
        grad = grad_weights.sub_(mean)
    if reweight == "softmax":
        return grad.mul_(chunk.weights)
    assert chunk.gate is not None
    if chunk.total is not None:
        grad = grad / chunk.total
    grad = grad * chunk.gate * (1 - chunk.gate)
    return grad if chunk.excluded is None else grad.masked_fill(chunk.excluded, 0.0)


def _pool(weights: Tensor, hidden: Tensor) -> Tensor:
    """Sum over s of weights `[p t s]` times hidden values `[p t s h]`, which are overwritten."""
    p, t, s, h = hidden.shape
    if s < MIN_STEPS_MATMUL:
        return hidden.mul_(weights[..., None]).sum(2)
    return torch.bmm(weights.reshape(p * t, 1, s), hidden.view(p * t, s, h)).view(p, t, h)


class PooledHidden(torch.autograd.Function):
    """Pooled hidden values `[o t h]` and summed weights `[o t]` of the pairs of a plan.

    Arguments of `apply`: plan, reweight, source `[r s d]` (steps sorted by `plan.order`), target
    `[q t d]`, score vector `[h]`, offset of the score `[1]`, first PReLU slope `[1]`, then weight,
    bias and slope of every Dense layer. Nothing per pair is kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, plan: PairPlan, reweight: str, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the chunks."""
        target, score = tensors[1], tensors[2]
        ctx.save_for_backward(*tensors)
        ctx.plan, ctx.reweight = plan, reweight
        one_layer = len(tensors) == len(("source", "target", "score", "offset", "slope")) + 3
        known = target.device.type == "cpu" and target.dtype in (torch.float32, torch.float64)
        ctx.compiled = COMPILED and one_layer and known
        if ctx.compiled:
            return compiled_forward(plan, reweight, tensors)
        slopes = [float(slope) for slope in tensors[4::3]]
        pooled = target.new_zeros(plan.n_out, target.shape[1], len(score))
        total = target.new_zeros(plan.n_out, target.shape[1])
        width = target.shape[1] * max(target.shape[2], len(score))
        for pairs, n_source in plan.chunks(width):
            chunk = _compute(plan, reweight, pairs, n_source, tensors, slopes, keep=False)
            rows = plan.out_rows[pairs]
            pooled.index_add_(0, rows, _pool(chunk.weights, chunk.hidden))
            total.index_add_(0, rows, chunk.weights.sum(-1))
        ctx.slopes, ctx.width = slopes, width
        return pooled, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_pooled: Tensor, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        """Compute each chunk again, and its derivatives."""
        tensors: tuple[Tensor, ...] = ctx.saved_tensors
        if ctx.compiled:
            return (
                None,
                None,
                *compiled_backward(ctx.plan, ctx.reweight, tensors, (grad_pooled, grad_total)),
            )
        grads = tuple(torch.zeros_like(tensor) for tensor in tensors)
        with torch.autocast(grad_pooled.device.type, enabled=False):
            for pairs, n_source in ctx.plan.chunks(ctx.width):
                chunk = _compute(
                    ctx.plan, ctx.reweight, pairs, n_source, tensors, ctx.slopes, keep=True
                )
                rows = ctx.plan.out_rows[pairs]
                _add_gradients(
                    ctx, grads, tensors, chunk, pairs, grad_pooled[rows], grad_total[rows]
                )
        return (None, None, *grads)


def _add_gradients(
    ctx: Any,
    grads: tuple[Tensor, ...],
    tensors: tuple[Tensor, ...],
    chunk: _Chunk,
    pairs: slice,
    grad_pooled: Tensor,
    grad_total: Tensor,
) -> None:
    """Add the derivatives of one chunk, from those by its pooled values `[p t h]`, `[p t]`."""
    source, target, score, offset, slope, *layers = grads
    p, t, s, h = chunk.hidden.shape
    flat = chunk.hidden.view(p * t, s, h)
    by_weights = torch.bmm(flat, grad_pooled.reshape(p * t, h, 1)).view(p, t, s)
    by_score = _score_gradient(chunk, ctx.reweight, by_weights.add_(grad_total[..., None]))
    score += flat.view(-1, h).T @ by_score.reshape(-1)
    offset += by_score.sum()
    # a hidden value enters the pooled sum with its weight, and its score with the score vector
    grad = chunk.weights[..., None] * grad_pooled[:, :, None]
    grad = grad.addcmul_(by_score[..., None], tensors[2]).view(p * t, s, h)
    for k in range(len(ctx.slopes) - 1, -1, -1):
        pre = chunk.inputs[k].view_as(grad)
        by_slope = slope if k == 0 else layers[3 * k - 1]
        through = torch.ops.aten.leaky_relu_backward(grad, pre, ctx.slopes[k], False)
        by_slope += torch.dot(grad.view(-1), pre.clamp_(max=0).view(-1))
        grad = through
        if k:
            inner = chunk.outputs[k - 1].view(p * t, s, -1)
            layers[3 * k - 3].addmm_(grad.view(-1, h).T, inner.view(-1, inner.shape[-1]))
            layers[3 * k - 2].add_(grad.sum((0, 1)))
            grad = grad @ tensors[5 + 3 * k - 3]
    grad = grad.view(p, t, s, -1)
    source[:, :s].index_add_(0, ctx.plan.source_rows[pairs], grad.sum(1))
    target.index_add_(0, ctx.plan.target_rows[pairs], grad.sum(2))
