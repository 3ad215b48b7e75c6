"""Dropout on a residual branch."""

import pytest
import torch

from baselines.dropout import add_dropped


def test_without_dropout_it_is_the_sum():
    x, change = torch.randn(2, 3, 5)
    assert torch.equal(add_dropped(x, change, 0.0), x + change)
    assert torch.equal(add_dropped(x, change, 1.0), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_rate_the_scale_and_the_gradient(rate, dtype):
    torch.manual_seed(0)
    x = torch.zeros(201, 203, dtype=dtype)
    change = torch.ones(203, 201, dtype=dtype).T.requires_grad_()
    out = add_dropped(x, change, rate)
    kept = out != 0
    assert kept.double().mean().item() == pytest.approx(1 - rate, abs=0.01)
    torch.testing.assert_close(out[kept], out.new_full((), 1 / (1 - rate)).expand(kept.sum()),
                               rtol=2e-4, atol=0.0)  # fmt: skip
    out.sum().backward()
    torch.testing.assert_close(change.grad, out.detach())
    assert not torch.equal(add_dropped(x, change, rate), out)
