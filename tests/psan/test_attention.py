"""Attention of compiled loops against the textbook formulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from psan.attention import biased_attention
from psan.attention_kernels import attend, attend_backward
from psan.dropout import Drop
from psan.spatial import padded_bias
from psan.tile import spaced

GROUPS, NODES, HEADS, WIDTH = 7, 11, 2, 4


def textbook(projected: Tensor, bias: Tensor, kept: Tensor | float = 1.0) -> Tensor:
    query, key, value = projected.transpose(1, 3).unbind(2)  # [g h n e]
    scores = query @ key.mT / math.sqrt(query.shape[-1]) + bias
    return ((scores.softmax(-1) * kept) @ value).transpose(1, 2)


def arguments(
    dtype: torch.dtype = torch.float32, scale: float = 1.0, nodes: int = NODES
) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = (GROUPS, nodes, 3, HEADS, WIDTH), (nodes, nodes)
    return [(scale * torch.randn(shape, dtype=dtype)).requires_grad_() for shape in shapes]


class Compiled(torch.autograd.Function):
    """The loops, group by group, as `psan.spatial_kernels` calls them."""

    @staticmethod
    def forward(ctx, projected: Tensor, bias: Tensor, dropout: float) -> Tensor:
        groups, nodes, _, heads, width = projected.shape
        padded = padded_bias(bias.detach()).numpy()
        rows, drop = max(padded.shape) + 6, Drop.draw(dropout)
        asked = np.zeros((groups, rows, spaced(3 * heads * width)), np.float32)
        asked[:, :nodes, : 3 * heads * width] = projected.detach().flatten(2).numpy()
        out = np.zeros((groups, rows, spaced(heads * width)), np.float32)
        sums = np.zeros((groups, heads, nodes), np.float32)
        factor = np.float32(width**-0.5)
        ctx.numbers = [
            (heads, width, factor, drop.seed, g * heads * nodes, drop.below, drop.keep)
            for g in range(groups)
        ]
        for g, numbers in enumerate(ctx.numbers):
            attend(asked[g], padded, *numbers, out[g], sums[g])
        ctx.kept, ctx.shape = (asked, padded, out, sums), projected.shape
        return torch.from_numpy(out[:, :nodes, : heads * width].copy()).unflatten(2, (heads, width))

    @staticmethod
    def backward(ctx, given: Tensor) -> tuple[Tensor, Tensor, None]:
        asked, padded, out, sums = ctx.kept
        _, nodes, _, heads, width = ctx.shape
        slope = np.zeros_like(out)
        slope[:, :nodes, : heads * width] = given.flatten(2).numpy()
        grad, grad_bias = np.zeros_like(asked), np.zeros_like(padded)
        for g, numbers in enumerate(ctx.numbers):
            attend_backward(
                asked[g], padded, *numbers, out[g], sums[g], slope[g], grad[g], grad_bias
            )
        of_projected = torch.from_numpy(grad[:, :nodes, : 3 * heads * width].copy())
        return of_projected.view(ctx.shape), torch.from_numpy(grad_bias[:nodes, :nodes]), None


def compiled(projected: Tensor, bias: Tensor, dropout: float = 0.0) -> Tensor:
    return Compiled.apply(projected, bias, dropout)


@pytest.mark.parametrize("nodes", [1, 11, 300], ids="{} nodes".format)
@pytest.mark.parametrize("scale", [1.0, 12.0], ids=["ordinary", "scores of some hundreds"])
def test_values_and_gradients(nodes: int, scale: float) -> None:
    """As near to the exact ones as the textbook's in the same precision.

    300 nodes take several blocks of queries, the last one smaller.
    """
    weight = torch.randn(GROUPS, nodes, HEADS, WIDTH)

    def found(attention: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        drawn = arguments(scale=scale, nodes=nodes)
        given = [part.detach().to(dtype).requires_grad_() for part in drawn]
        out = attention(*given)
        (out * weight).sum().backward()
        return [part.double() for part in (out.detach(), *(one.grad for one in given))]

    exact = found(textbook, torch.float64)
    for ours, plain, wanted in zip(
        found(compiled, torch.float32), found(textbook, torch.float32), exact, strict=True
    ):
        allowed = 2 * (plain - wanted).abs().max() + 1e-6 * wanted.abs().max() + 3e-6 * scale**2
        assert (ours - wanted).abs().max() <= allowed


def test_nan_is_not_swallowed() -> None:
    projected, bias = arguments()
    with torch.no_grad():
        projected[2, 3, 0] = torch.nan  # a query
    out = compiled(projected, bias)
    assert out[2, 3].isnan().all()
    assert int(out.isnan().sum()) == HEADS * WIDTH


def test_bad_arguments_are_refused() -> None:
    with pytest.raises((ValueError, TypeCheckError)):  # the tests check annotations first
        biased_attention(arguments()[0], torch.zeros(3, 3))


def test_other_precisions_are_computed_by_torch() -> None:
    ours = arguments(torch.float64)
    torch.testing.assert_close(biased_attention(*ours), textbook(*ours))
    assert biased_attention(*arguments(torch.bfloat16)).dtype == torch.bfloat16


def one_hot_values(groups: int, nodes: int) -> Tensor:
    """Values with which the output is the matrix of weights."""
    projected = torch.randn(groups, nodes, 3, HEADS, nodes)
    projected[:, :, 2] = torch.eye(nodes)[:, None]
    return projected


def test_gradients_are_those_of_the_weights_that_were_kept() -> None:
    torch.manual_seed(4)
    projected, bias = one_hot_values(GROUPS, NODES), torch.randn(NODES, NODES)

    def with_one_mask(*tensors: Tensor) -> Tensor:
        torch.manual_seed(5)
        return compiled(*tensors, dropout=0.3)

    kept = (with_one_mask(projected, bias) > 0).transpose(1, 2) / 0.7  # [g h n n]
    assert 0 < int((kept == 0).sum()) < kept.numel()
    ours = [projected.clone().requires_grad_(), bias.clone().requires_grad_()]
    plain = [part.detach().clone().requires_grad_() for part in ours]
    weight = torch.randn(GROUPS, NODES, HEADS, NODES)
    (with_one_mask(*ours) * weight).sum().backward()
    (textbook(*plain, kept) * weight).sum().backward()
    for got, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-5)


def test_dropout_keeps_the_mean_and_drops_the_stated_share() -> None:
    torch.manual_seed(2)
    groups, nodes = 2000, 16
    projected = one_hot_values(groups, nodes)
    projected[:, :, :2] = 0
    weights = compiled(projected, torch.zeros(nodes, nodes), dropout=0.1)
    assert float(weights.mean()) == pytest.approx(1 / nodes, rel=2e-3)
    dropped = (weights == 0).double()
    assert float(dropped.mean()) == pytest.approx(0.1, rel=1e-2)
    for axes in ((0, 1, 2), (0, 2, 3), (1, 2, 3)):  # evenly over keys, queries and groups
        spread = dropped.mean(axes)
        expected = math.sqrt(0.1 * 0.9 / (dropped.numel() / spread.numel()))
        assert float(spread.std()) < 1.6 * expected


def test_dropout_differs_between_calls_and_follows_the_seed() -> None:
    tensors = arguments()
    torch.manual_seed(3)
    first, second = (compiled(*tensors, dropout=0.5) for _ in range(2))
    torch.manual_seed(3)
    again = compiled(*tensors, dropout=0.5)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
