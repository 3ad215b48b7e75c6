"""Attention made tile by tile against the textbook formulation."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from psan.attention import biased_attention

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


@pytest.mark.parametrize("nodes", [1, 11, 300], ids="{} nodes".format)
@pytest.mark.parametrize("scale", [1.0, 12.0], ids=["ordinary", "scores of some hundreds"])
@pytest.mark.parametrize("threads", [1, 3], ids="{} threads".format)
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, nodes: int, scale: float, threads: int
) -> None:
    """300 nodes take several tiles of rows, the last one smaller."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours = arguments(scale=scale, nodes=nodes)
    exact = [part.detach().double().requires_grad_() for part in ours]
    weight = torch.randn(GROUPS, nodes, HEADS, WIDTH)
    out, expected = biased_attention(*ours), textbook(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=3e-5 * scale)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for got, wanted in zip(ours, exact, strict=True):
        assert got.grad is not None
        torch.testing.assert_close(got.grad.double(), wanted.grad, rtol=1e-3, atol=1e-4 * scale)


def test_nan_is_not_swallowed() -> None:
    projected, bias = arguments()
    with torch.no_grad():
        projected[2, 3, 0] = torch.nan  # a query
    out = biased_attention(projected, bias)
    assert out[2, 3].isnan().all()
    assert int(out.isnan().sum()) == HEADS * WIDTH


def test_a_second_derivative_is_refused() -> None:
    projected, bias = arguments()
    out = biased_attention(projected, bias).square().sum()
    (grad,) = torch.autograd.grad(out, projected, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises((ValueError, TypeCheckError)):  # the tests check annotations first
        biased_attention(arguments()[0], torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"probability 1.0 must be in \[0, 1\)"):
        biased_attention(*arguments(), dropout=1.0)


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
        return biased_attention(*tensors, dropout=0.3)

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
    weights = biased_attention(projected, torch.zeros(nodes, nodes), dropout=0.1)
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
    first, second = (biased_attention(*tensors, dropout=0.5) for _ in range(2))
    torch.manual_seed(3)
    again = biased_attention(*tensors, dropout=0.5)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_no_weight_per_group_is_kept_for_the_backward_pass() -> None:
    kept: list[int] = []
    groups, nodes = 3, 200
    projected = torch.randn(groups, nodes, 3, HEADS, WIDTH, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        biased_attention(projected, torch.randn(nodes, nodes, requires_grad=True), dropout=0.1)
    assert sum(kept) < 2 * nodes * nodes
