"""Matrix factorisation against plain loops, on exact cases and on hostile series."""

import numpy as np
import pytest

from baselines.mf import MF, least_squares


def low_rank(steps=300, sensors=20, rank=2, hidden=0.5, seed=0):
    """A matrix of the given rank, and what is visible of it."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(steps, rank)) @ rng.normal(size=(rank, sensors))
    return truth.astype(np.float32), rng.random(truth.shape) > hidden


def test_a_low_rank_matrix_is_completed():
    truth, visible = low_rank()
    method = MF(seed=0, rank=3, ridge=1e-3, max_iterations=300, tolerance=1e-9)
    filled = method.impute(np.where(visible, truth, np.float32(np.nan)), visible)
    assert np.abs(filled - truth)[~visible].mean() < 0.01 * truth.std()


def test_least_squares_equals_a_plain_loop():
    rng = np.random.default_rng(1)
    truth, visible = low_rank(steps=15, sensors=8)
    factors = rng.normal(size=(8, 3)).astype(np.float32)
    x = np.where(visible, truth, 0)
    found = least_squares(x, visible.astype(np.float32), factors, 0.7)
    for row, seen, got in zip(truth, visible, found, strict=True):
        f = factors[seen].astype(np.float64)
        expected = np.linalg.solve(f.T @ f + 0.7 * np.eye(3), f.T @ row[seen])
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_factors_are_a_stationary_point_of_what_is_minimised():
    truth, visible = low_rank(steps=40, sensors=6)
    x, weight = np.where(visible, truth, 0), visible.astype(np.float32)
    method = MF(seed=3, rank=2, ridge=0.5, max_iterations=2000, tolerance=0.0)
    u, v = (f.astype(np.float64) for f in method._factors(x, weight))
    residual = weight * (x - u @ v.T)
    np.testing.assert_allclose(residual @ v, 0.5 * u, atol=2e-3)
    np.testing.assert_allclose(residual.T @ u, 0.5 * 40 / 6 * v, atol=2e-2)
    assert np.square(u).sum() / 40 == pytest.approx(np.square(v).sum() / 6, rel=0.01)


def test_seeds_agree_and_repeat():
    truth, visible = low_rank(hidden=0.3)
    first, again, other = (MF(seed=s).impute(truth, visible) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[~visible].mean() < 0.1 * truth.std()


def test_units_of_a_sensor_do_not_matter():
    truth, visible = low_rank()
    unit = np.logspace(-2, 2, truth.shape[1], dtype=np.float32)
    one, two = (MF(seed=0).impute(x, visible) for x in (truth, truth * unit + 5 * unit))
    np.testing.assert_allclose((two / unit - 5)[~visible], one[~visible], atol=0.02)


@pytest.mark.parametrize("sensors", [1, 5])
@pytest.mark.parametrize("steps", [1, 5, 300])
@pytest.mark.parametrize("junk", [np.nan, 1e6])
def test_hostile_series(sensors, steps, junk):
    rng = np.random.default_rng(5)
    values = rng.normal(50, 10, (steps, sensors)).astype(np.float32)
    visible = rng.random(values.shape) > 0.95
    visible[steps // 3 : steps // 2] = False
    values[:, 0] = 7.0
    visible[0, 0] = True
    visible[:, sensors // 2] &= sensors == 1
    method = MF(seed=0)
    filled = method.impute(np.where(visible, values, np.float32(junk)), visible)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_array_equal(filled[:, 0], 7.0)
    clean = method.impute(np.where(visible, values, np.float32(0)), visible)
    np.testing.assert_array_equal(filled, clean)


def test_empty_steps_get_sensor_means_and_empty_sensors_step_means():
    truth, visible = low_rank()
    visible[100:140], visible[:, 4] = False, False
    filled = MF(seed=0).impute(truth, visible)
    for n in set(range(20)) - {4}:
        np.testing.assert_allclose(filled[100:140, n], truth[visible[:, n], n].mean(), atol=1e-5)
    np.testing.assert_allclose(filled[0, 4], truth[0, visible[0]].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank=0"),
        ({"ridge": 0.0}, "ridge=0"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"tolerance": -1.0}, "tolerance=-1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MF(seed=0, **options)


def test_nothing_visible_is_an_error():
    with pytest.raises(ValueError, match="none of the 6 entries"):
        MF(seed=0).impute(np.ones((3, 2), np.float32), np.zeros((3, 2), bool))
