"""Attention made slice by slice against the textbook formulation."""

import math

import pytest
import torch
from torch import Tensor

import psan.attention
from psan.attention import biased_attention

GROUPS, NODES, WIDTH = 7, 11, 4


def textbook(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    scores = query @ key.mT / math.sqrt(query.shape[-1]) + bias
    return scores.softmax(-1) @ value


def arguments(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(GROUPS, NODES, WIDTH)] * 3 + [(NODES, NODES)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("groups_at_a_time", [1, 3, GROUPS])
def test_values_and_gradients(monkeypatch: pytest.MonkeyPatch, groups_at_a_time: int) -> None:
    monkeypatch.setattr(psan.attention, "SLICE_ELEMENTS", groups_at_a_time * NODES**2)
    ours, plain = arguments(), arguments()
    weight = torch.randn(GROUPS, NODES, WIDTH, dtype=torch.float64)
    out, expected = biased_attention(*ours), textbook(*plain)
    torch.testing.assert_close(out, expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    for got, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(got.grad, wanted.grad)


def test_gradients_are_those_of_the_function_with_dropout() -> None:
    def with_one_mask(*tensors: Tensor) -> Tensor:
        torch.manual_seed(5)
        return biased_attention(*tensors, dropout=0.3)

    assert torch.autograd.gradcheck(with_one_mask, arguments())


def test_dropout_keeps_the_mean_and_drops_the_stated_share() -> None:
    torch.manual_seed(2)
    groups, nodes = 4000, 16
    query = key = torch.zeros(groups, nodes, nodes)
    value = torch.eye(nodes).expand(groups, nodes, nodes).contiguous()
    weights = biased_attention(query, key, value, torch.zeros(nodes, nodes), dropout=0.1)
    assert float(weights.mean()) == pytest.approx(1 / nodes, rel=2e-3)
    assert float((weights == 0).double().mean()) == pytest.approx(26 / 256, rel=1e-2)


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
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        biased_attention(*arguments(), dropout=0.1)
    assert max(kept) < GROUPS * NODES * NODES
