"""Tensor completion against plain linear algebra, and its edge cases."""

import numpy as np
import pytest

from baselines.latc import GROWTH, Latc, autoregressions, banded_factor, shrink, smoothed
from baselines.linear import Linear

STEPS_PER_DAY = 12


def latc(steps, first=0, **options):
    day_steps = (np.arange(steps) + first) % STEPS_PER_DAY
    return Latc(steps_per_day=STEPS_PER_DAY, day_steps=day_steps, **options)


def shrink_by_svd(tensor, threshold, theta):
    total = np.zeros_like(tensor)
    for mode in range(3):
        moved = np.moveaxis(tensor, mode, 0)
        u, s, v = np.linalg.svd(moved.reshape(len(moved), -1), full_matrices=False)
        s[theta:] = np.maximum(s[theta:] - threshold, 0)
        total += np.moveaxis(((u * s) @ v).reshape(moved.shape), 0, mode) / 3
    return total


def smoothed_by_dense_solve(target, weights, lags, strength):
    steps, start, out = len(target), max(lags), np.empty_like(target)
    for n in range(target.shape[1]):
        residual = np.zeros((steps - start, steps))
        for i, t in enumerate(range(start, steps)):
            residual[i, t] = 1
            for lag, weight in zip(lags, weights[n], strict=True):
                residual[i, t - lag] = -weight
        matrix = strength * residual.T @ residual + np.eye(steps)
        out[:, n] = np.linalg.solve(matrix, target[:, n])
    return out


def autoregressions_by_lstsq(z, lags):
    start, out = max(lags), []
    for own in z.T:
        past = np.stack([own[start - lag : len(own) - lag] for lag in lags], axis=1)
        out.append(np.linalg.lstsq(past, own[start:], rcond=None)[0])
    return np.array(out)


def low_rank_days(days, sensors, seed=0, rank=2):
    """Sum of outer products of days, smooth profiles and sensors."""
    rng = np.random.default_rng(seed)
    t = np.arange(STEPS_PER_DAY) / STEPS_PER_DAY * 2 * np.pi
    total = np.zeros((days, STEPS_PER_DAY, sensors))
    for k in range(rank):
        profile = 1.5 + np.sin(t + k)
        day, sensor = rng.random((days, 1, 1)) + 0.5, rng.random(sensors) + 0.5
        total += 20 * day * profile[:, None] * sensor
    return total.reshape(-1, sensors)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 7, 2), (6, 2, 1), (2, 3, 30)])
@pytest.mark.parametrize("theta", [0, 1, 4])
def test_shrinking_equals_singular_values_of_the_unfoldings(shape, theta):
    tensor = np.random.default_rng(1).normal(size=shape)
    for threshold in (0.1, 1.0, 100.0):
        got = shrink(tensor, threshold, theta)
        np.testing.assert_allclose(got, shrink_by_svd(tensor, threshold, theta), atol=1e-6)


@pytest.mark.parametrize("lags", [[1], [1, 2, 3], [2, 5]])
def test_smoothing_equals_a_dense_solve(lags):
    rng = np.random.default_rng(2)
    target, weights = rng.normal(size=(20, 3)), rng.normal(size=(3, len(lags)))
    for strength in (0.01, 1.0, 30.0):
        expected = smoothed_by_dense_solve(target, weights, lags, strength)
        np.testing.assert_allclose(smoothed(target, weights, lags, strength), expected, atol=1e-9)
    short = target[: max(lags)]
    np.testing.assert_array_equal(smoothed(short, weights, lags, 1.0), short)


@pytest.mark.parametrize("strength", [0.1, 10.0, 1e6])
def test_a_long_factor_equals_a_full_one(monkeypatch, strength):
    taps = np.array([1, -0.9, 0.2, -0.25])
    got = banded_factor(taps, strength, 1100)
    monkeypatch.setattr("baselines.latc.SHORT", 2000)
    np.testing.assert_allclose(got, banded_factor(taps, strength, 1100), rtol=1e-6, atol=1e-9)


def test_autoregressions_equal_least_squares():
    z = np.random.default_rng(3).normal([0, 0, 5, 50], 1, size=(200, 4))
    got = autoregressions(z, [1, 2, 4])
    np.testing.assert_allclose(got, autoregressions_by_lstsq(z, [1, 2, 4]), atol=1e-3)
    assert autoregressions(z[:4], [1, 2, 4]).tolist() == [[0, 0, 0]] * 4


def test_algorithm_equals_a_plain_one(monkeypatch):
    """Six outer iterations, with the building blocks above replaced by dense ones."""
    monkeypatch.setattr("baselines.latc.RIDGE", 0.0)
    days, lags, theta, rho, balance = 5, [1, 2], 2, 1e-3, 3.0
    values = low_rank_days(days, 4) + np.random.default_rng(4).normal(0, 1, (60, 4))
    visible = np.random.default_rng(5).random(values.shape) < 0.6
    start = Linear().impute(values, visible)
    options = {"theta": theta, "rho": rho, "balance": balance, "lags": lags, "tolerance": 1e-12}
    got = latc(60, max_iterations=6, **options)._complete(start, visible)

    z, dual, weight = start, np.zeros_like(start), balance * rho
    for _ in range(6):
        weights = autoregressions_by_lstsq(z, lags)
        for _ in range(3):
            rho *= GROWTH
            tensor = (z - dual / rho).reshape(days, STEPS_PER_DAY, 4)
            low_rank = shrink_by_svd(tensor, 1 / (3 * rho), theta).reshape(z.shape)
            smooth = smoothed_by_dense_solve(low_rank + dual / rho, weights, lags, weight / rho)
            z = np.where(visible, z, smooth)
            dual = dual + rho * (low_rank - z)
    np.testing.assert_allclose(got, low_rank, rtol=1e-7)


@pytest.mark.parametrize("first", [0, 5])
def test_scale_and_time_of_the_first_step(first):
    """Readings in another unit give the same estimates in it; cut days are completed as well."""
    values = low_rank_days(12, 6)[first:-3]
    visible = np.random.default_rng(9).random(values.shape) < 0.6
    one, other = (
        latc(len(values), first, theta=2).impute(x, visible) for x in (values, values / 7)
    )
    np.testing.assert_allclose(other * 7, one, rtol=1e-3)
    assert np.abs(one - values)[~visible].mean() < 1


def test_a_low_rank_tensor_is_completed():
    values = low_rank_days(20, 15)
    visible = np.random.default_rng(6).random(values.shape) < 0.6
    visible[100:112] = False  # a day at which nothing is known but that it fits the others
    visible[103] = True
    filled = latc(240, theta=2, balance=1.0).impute(np.where(visible, values, np.nan), visible)
    error = np.abs(filled - values)[~visible].mean()
    assert error < 0.3
    assert error < 0.1 * np.abs(Linear().impute(values, visible) - values)[~visible].mean()


@pytest.mark.parametrize(("steps", "first"), [(3, 0), (7, 8), (100, 5), (120, 0)])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_edge_cases(steps, first, scale):
    """Days that are not whole; constant, single, silent sensors; whatever stands in the gaps."""
    rng = np.random.default_rng(7)
    values = (scale * rng.normal(3, 1, (steps, 6))).astype(np.float32)
    values[:, 0] = scale
    visible = rng.random(values.shape) < 0.5
    visible[:, 1:3] = False
    visible[steps // 2, 2] = True
    visible[:, 3] &= rng.random(steps) < 0.1
    visible[steps // 3 : steps // 2] = False
    visible[-1, 0] = True
    method = latc(steps, first, max_iterations=20)
    outcomes = [
        method.impute(np.where(visible, values, np.float32(junk)), visible)
        for junk in (np.nan, 1e6, -np.inf)
    ]
    for filled in outcomes:
        np.testing.assert_array_equal(filled, outcomes[0])
        assert filled.dtype == np.float32
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[visible], values[visible])
    linear = Linear().impute(np.where(visible, values, np.float32(np.nan)), visible)
    np.testing.assert_array_equal(outcomes[0][:, 1], linear[:, 1])


@pytest.mark.parametrize("shape", [(50, 1), (1, 1), (30, 2)])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_series(shape, value):
    visible = np.random.default_rng(8).random(shape) < 0.5
    visible[0] = True
    filled = latc(len(visible), max_iterations=30).impute(np.full(shape, value), visible)
    np.testing.assert_allclose(filled, value, rtol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lags": []}, "lags"),
        ({"lags": [0, 1]}, "lags"),
        ({"lags": [2, 2]}, "lags"),
        ({"rho": 0.0}, "rho=0.0"),
        ({"balance": -1.0}, "balance=-1.0"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"theta": -1}, "theta=-1"),
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"inner_iterations": 0}, "inner_iterations=0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        latc(10, **options)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="none of the 6 entries is visible"):
        latc(3).impute(np.full((3, 2), np.nan), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="3 steps, but 4"):
        latc(4).impute(np.ones((3, 2)), np.ones((3, 2), bool))
