"""The numbers that the compiled loops are made of, and a whole model of them."""

import numpy as np
import torch
from numba import njit

from psan import PSAN
from psan.compiled import exp, maximum, random


@njit
def _exps(x):
    return np.array([exp(value) for value in x])


@njit
def _randoms(seed, count):
    return np.array([random(seed, j) for j in range(count)])


@njit
def _maximum(row, added):
    return maximum(row, added)


def test_exponential() -> None:
    x = np.concatenate([-np.geomspace(1e-7, 87, 20_000), [0.0, -200.0, 1e-6]]).astype(np.float32)
    exact = np.exp(np.maximum(x, -87).astype(np.float64))
    units = np.abs(_exps(x) - exact) / np.spacing(exact.astype(np.float32))
    assert units.max() <= 2
    assert np.isnan(_exps(np.array([np.nan], np.float32)))[0]


def test_random_numbers_are_even_in_every_bit() -> None:
    numbers = _randoms(np.uint32(7), 100_000)
    assert len(np.unique(numbers)) > 99_000
    bits = (numbers[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.01


def test_maximum() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6):
        row, added = (scale * rng.normal(-1, 1, 50)).astype(np.float32), np.zeros(50, np.float32)
        assert _maximum(row, added) == row.max()


def test_mixed_precision_trains() -> None:
    torch.manual_seed(0)
    model = PSAN(5, window=4, d_model=8, n_heads=2, n_layers=2)
    inputs = torch.randn(3, 4, 5, 1), torch.rand(3, 4, 5, 1) < 0.7, torch.randn(3, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    out.float().abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(out.float(), model.eval()(*inputs), rtol=0.2, atol=0.2)
