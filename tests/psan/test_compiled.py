"""The numbers that the compiled loops are made of, and a whole model of them."""

import numpy as np
import pytest
import torch
from numba import njit

from psan import PSAN
from psan.attention_rows import maximum, powers
from psan.compiled import random
from psan.tile import COLUMNS, ROWS, depthwise, product


@njit
def _powers(x, seed=0, drop=0):
    """In place, less a maximum of 0."""
    return powers(x, 0, len(x), np.float32(0), np.uint32(seed), np.uint32(drop))


@njit
def _randoms(seed, count):
    return np.array([random(seed, j) for j in range(count)])


@njit
def _maximum(row, at):
    return maximum(row, at, len(row) - at)


@njit
def _product(a, a_row, a_step, b, base, c):
    n, width = c.shape
    product(a, 0, a_row, a_step, b, 0, width, len(b), base, 0, width, c, 0, width, n, width)


@njit
def _depthwise(a, b, base, c):
    width = b.shape[1]
    depthwise(
        a, 0, a.shape[1] * width, width, b, 0, width, len(b), base, 0, width, c, 0, width
    )  # fmt: skip


def test_powers_of_two() -> None:
    small = -np.geomspace(1e-7, 126, 20_005)
    x = np.concatenate([small, [0.0, -200.0, 1e-6, 100.3, -np.inf, 0, 0, 0, 0, 0, 0]])
    found = x.astype(np.float32)
    exact = np.exp2(np.maximum(found.astype(np.float64), -126))
    total = _powers(found)
    assert (np.abs(found - exact) / np.spacing(exact.astype(np.float32))).max() <= 3
    assert total == pytest.approx(exact.sum(), rel=1e-6)
    nothing = np.full(16, np.nan, np.float32)
    assert np.isnan(_powers(nothing))
    assert np.isnan(nothing).all()


def test_random_numbers_are_even_in_every_bit() -> None:
    numbers = _randoms(np.uint32(7), 100_000)
    assert len(np.unique(numbers)) > 99_000
    bits = (numbers[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    assert np.abs(bits.mean(0) - 0.5).max() < 0.01


def test_vectors_drop_by_the_same_random_numbers() -> None:
    x, seed, drop = np.zeros(1000, np.float32), np.uint32(7), np.uint32(2**30)
    assert _powers(x, seed, drop) == 1000  # of all, also the dropped ones
    np.testing.assert_array_equal(x == 0, _randoms(seed, 1000) < drop)


def test_maximum() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e6):
        row = (scale * rng.normal(-1, 1, 56)).astype(np.float32)
        assert _maximum(row, 16) == row[16:].max()


@pytest.mark.parametrize("turned", [False, True], ids=["as it is", "transposed"])
@pytest.mark.parametrize("depth", [1, 37])
def test_products_of_whole_tiles(turned: bool, depth: int) -> None:
    rng = np.random.default_rng(0)
    n, width = 3 * ROWS, 2 * COLUMNS
    a, b, base = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((n, depth), (depth, width), (n, width))
    )
    c = np.full((n, width), np.nan, np.float32)
    left = np.ascontiguousarray(a.T) if turned else a
    _product(left, *((1, n) if turned else (depth, 1)), b, base, c)
    np.testing.assert_allclose(c, base + a @ b, rtol=1e-5, atol=1e-5)
    _product(left, *((1, n) if turned else (depth, 1)), b, base, base)  # in place
    np.testing.assert_array_equal(base, c)


def test_a_depthwise_tile() -> None:
    rng = np.random.default_rng(0)
    a, b, base = (
        rng.normal(size=(*axes, COLUMNS)).astype(np.float32) for axes in ((ROWS, 5), (5,), (ROWS,))
    )
    c = np.empty_like(base)
    _depthwise(a, b, base, c)
    np.testing.assert_allclose(c, base + (a * b).sum(1), rtol=1e-5, atol=1e-5)


def test_mixed_precision_trains() -> None:
    torch.manual_seed(0)
    model = PSAN(5, window=4, d_model=8, n_heads=2, n_layers=2)
    inputs = torch.randn(3, 4, 5, 1), torch.rand(3, 4, 5, 1) < 0.7, torch.randn(3, 4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(*inputs)
    out.float().abs().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(out.float(), model.eval()(*inputs), rtol=0.2, atol=0.2)
