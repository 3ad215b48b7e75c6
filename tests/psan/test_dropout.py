"""Dropout without a mask in memory."""

import pytest
import torch

from psan.compiled import BLOCK
from psan.dropout import dropout


def test_share_mean_and_gradient() -> None:
    torch.manual_seed(0)
    x = torch.full((300, 1000), 2.0, requires_grad=True)
    out = dropout(x, 0.25)
    dropped = out == 0
    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=3e-3)
    torch.testing.assert_close(out[~dropped], torch.full_like(out[~dropped], 2 / 0.75))
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, out.detach() / 2)


def test_neighbours_and_blocks_are_independent() -> None:
    torch.manual_seed(1)
    dropped = (dropout(torch.ones(400 * BLOCK), 0.5) == 0).double().view(400, -1) - 0.5
    for shift in (1, 2, 7, BLOCK):
        flat = dropped.flatten()
        together = (flat[shift:] * flat[:-shift]).mean() * 4
        assert abs(float(together)) < 5 / len(flat) ** 0.5
    assert float(dropped.mean(0).std()) == pytest.approx(0.5 / 20, rel=0.15)


def test_the_seed_decides_and_calls_differ() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.5))
    assert not torch.equal(first, second)


def test_nothing_to_drop_and_other_precisions() -> None:
    x = torch.ones(1000, dtype=torch.float64)
    assert dropout(x, 0.0) is x
    assert 0 < int((dropout(x, 0.5) == 0).sum()) < 1000
