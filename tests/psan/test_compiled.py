"""The numbers that the compiled loops are made of, and a whole model of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numba import njit

from psan import PSAN
from psan.attention_rows import exponentials, maximum
from psan.compiled import exp, random


@njit
def _exps(x):
    return np.array([exp(value) for value in x])


@njit
def _vector_exps(x):
    """In place, without a maximum and nothing dropped."""
    exponentials(x, 0, len(x), np.float32(0), np.uint32(0), np.uint32(0))
    return x


@njit
def _dropped(x, seed, drop):
    return exponentials(x, 0, len(x), np.float32(0), seed, drop)


@njit
def _maximum(row, at):
    return maximum(row, at, len(row) - at)


@njit
def _randoms(seed, count):
    return np.array([random(seed, j) for j in range(count)])


@pytest.mark.parametrize("exps", [_exps, _vector_exps])
def test_exponential(exps: Callable[[np.ndarray], np.ndarray]) -> None:
    x = np.concatenate([-np.geomspace(1e-7, 87, 20_005), [0.0, -200.0, 1e-6]]).astype(np.float32)
    exact = np.exp(np.maximum(x, -87).astype(np.float64))
    units = np.abs(exps(x.copy()) - exact) / np.spacing(exact.astype(np.float32))
    assert units.max() <= 2
    assert np.isnan(exps(np.full(8, np.nan, np.float32))).all()


def test_random_numbers_are_even_in_every_bit() -> None:
    numbers = _randoms(np.uint32(7), 100_000)
    assert len(np.unique(numbers)) > 99_000
    bits = (numbers[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.01


def test_vectors_drop_by_the_same_random_numbers() -> None:
    x, drop = np.zeros(1000, np.float32), np.uint32(2**30)
    assert _dropped(x, np.uint32(7), drop) == 1000
    np.testing.assert_array_equal(x == 0, _randoms(np.uint32(7), 1000) < drop)


def test_maximum() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6):
        row = (scale * rng.normal(-1, 1, 56)).astype(np.float32)
        assert _maximum(row, 16) == row[16:].max()


def test_mixed_precision_trains() -> None:
    torch.manual_seed(0)
    model = PSAN(5, window=4, d_model=8, n_heads=2, n_layers=2)
    inputs = torch.randn(3, 4, 5, 1), torch.rand(3, 4, 5, 1) < 0.7, torch.randn(3, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    out.float().abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(out.float(), model.eval()(*inputs), rtol=0.2, atol=0.2)
