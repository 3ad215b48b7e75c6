"""Mixing over time in compiled loops against the plain operations of torch."""

import pytest
import torch

from psan.layers import BidirectionalTemporalConvolution
from psan.temporal_kernels import BLOCK


def layer(width: int, window: int) -> BidirectionalTemporalConvolution:
    torch.manual_seed(0)
    return BidirectionalTemporalConvolution(width, window)


@pytest.mark.parametrize(
    ("width", "window", "sensors"),
    [(8, 6, 5), (6, 1, 1), (20, 2, 2 * BLOCK + 1), (64, 24, BLOCK)],
    ids=["small", "one step", "padded", "the paper's"],
)
@pytest.mark.parametrize("threads", [1, 3], ids="{} threads".format)
def test_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch, width: int, window: int, sensors: int, threads: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    ours, plain = layer(width, window), layer(width, window).double()
    x = torch.randn(window, 2, sensors, width, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    weight = torch.randn_like(x)
    out, expected = ours(x), plain(exact)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    got = {"x": x.grad} | {name: p.grad for name, p in ours.named_parameters()}
    wanted = {"x": exact.grad} | {name: p.grad for name, p in plain.named_parameters()}
    for name, gradient in wanted.items():
        close = {"rtol": 1e-4, "atol": 1e-5 * float(gradient.abs().max())}
        torch.testing.assert_close(got[name].double(), gradient, **close, msg=name)


def test_large_inputs_saturate_the_gates() -> None:
    ours, plain = layer(8, 6), layer(8, 6).double()
    x = 1e4 * torch.randn(6, 2, 5, 8)
    out = ours(x)
    assert out.isfinite().all()
    torch.testing.assert_close(out.double(), plain(x.double()), rtol=1e-5, atol=0.1)


def test_a_window_with_nan_spoils_no_other() -> None:
    ours = layer(8, 6)
    x = torch.randn(6, 2, BLOCK + 2, 8)
    x[3, 1, -1] = torch.nan  # in the last block, which is not full
    out = ours(x)
    assert out[:, 1, -1].isnan().all()
    assert int(out.isnan().sum()) == out[:, 1, -1].numel()
