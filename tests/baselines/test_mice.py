"""Chained equations against scikit-learn, on exact cases and on hostile series."""

import numpy as np
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import Ridge

from baselines.mice import MICE, most_correlated, predict


def correlated(steps=400, sensors=6, hidden=0.3, noise=0.1, seed=0):
    """Sensors that follow two common signals, and what is visible of them."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(steps, 2)) @ rng.normal(size=(2, sensors))
    truth = 50 + 10 * common + noise * rng.normal(size=common.shape)
    return truth.astype(np.float32), rng.random(truth.shape) > hidden


@pytest.mark.parametrize("rounds", [1, 4])
def test_equals_scikit_learns_iterative_imputer(rounds):
    truth, _ = correlated(noise=3.0)
    n_seen = 250  # of each sensor: the penalties are then equal
    rank = np.random.default_rng(9).random(truth.shape).argsort(axis=0).argsort(axis=0)
    visible = rank < n_seen
    x = np.where(visible, truth, np.nan).astype(np.float64)
    mean, spread = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    imputer = IterativeImputer(Ridge(alpha=0.05 * n_seen), max_iter=rounds, tol=0.0)
    with pytest.warns(UserWarning, match="Early stopping criterion not reached"):
        expected = imputer.fit_transform((x - mean) / spread) * spread + mean
    method = MICE(ridge=0.05, max_iterations=rounds, tolerance=0.0)
    np.testing.assert_allclose(method.impute(truth, visible), expected, rtol=1e-4)


def test_a_regression_equals_scikit_learns():
    rng = np.random.default_rng(1)
    others = rng.normal(2, 1, (5, 200)).astype(np.float32)
    own = (others.T @ rng.normal(size=5) + 3 + rng.normal(size=200)).astype(np.float32)
    visible = rng.random(200) > 0.4
    model = Ridge(alpha=0.2 * visible.sum()).fit(others.T[visible], own[visible])
    expected = model.predict(others.T[~visible])
    np.testing.assert_allclose(predict(others, own, visible, 0.2), expected, rtol=1e-4, atol=1e-4)


def test_the_most_correlated_sensors_are_chosen():
    truth, _ = correlated(sensors=12)
    x = ((truth - truth.mean(axis=0)) / truth.std(axis=0)).T.copy()
    correlation = np.abs(np.corrcoef(x))
    chosen = most_correlated(x, 3)
    for n in range(12):
        expected = sorted(set(range(12)) - {n}, key=lambda m: -correlation[n, m])[:3]
        assert set(chosen[n]) == set(expected)
    assert most_correlated(x, 50).shape == (12, 11)
    assert most_correlated(x[:1], 50).shape == (1, 0)


def test_sensors_that_follow_common_signals_are_recovered():
    truth, visible = correlated(noise=0.0, sensors=10)
    method = MICE(ridge=1e-5, max_iterations=100, tolerance=1e-5)
    error = np.abs(method.impute(truth, visible) - truth)[~visible]
    assert error.mean() < 0.01 * truth.std()


def test_rounds_improve_on_the_first():
    truth, visible = correlated(hidden=0.5, noise=1.0)
    one, many = (
        np.abs(MICE(max_iterations=rounds).impute(truth, visible) - truth)[~visible].mean()
        for rounds in (1, 5)
    )
    assert many < 0.9 * one


@pytest.mark.parametrize("sensors", [1, 2, 5])
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
    method = MICE()
    filled = method.impute(np.where(visible, values, np.float32(junk)), visible)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_array_equal(filled[:, 0], 7.0)
    clean = method.impute(np.where(visible, values, np.float32(0)), visible)
    np.testing.assert_array_equal(filled, clean)


def test_empty_steps_get_about_sensor_means_and_empty_sensors_step_means():
    truth, visible = correlated()
    visible[100:140], visible[:, 4] = False, False
    filled = MICE().impute(truth, visible)
    for n in set(range(6)) - {4}:
        readings = truth[visible[:, n], n]
        assert np.abs(filled[100:140, n] - readings.mean()).max() < 0.2 * readings.std()
    np.testing.assert_allclose(filled[0, 4], truth[0, visible[0]].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_nearest": 0}, "n_nearest=0"),
        ({"ridge": 0.0}, "ridge=0"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"tolerance": -1.0}, "tolerance=-1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MICE(**options)


def test_nothing_visible_is_an_error():
    with pytest.raises(ValueError, match="none of the 6 entries"):
        MICE().impute(np.ones((3, 2), np.float32), np.zeros((3, 2), bool))
