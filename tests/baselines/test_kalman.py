"""The Kalman smoother against textbook loops and statsmodels, and its edge cases."""

import numpy as np
import pytest
from statsmodels.tsa.statespace.structural import UnobservedComponents

from baselines.kalman import DIFFUSE, Kalman, log_likelihood, profile_of_others, smooth
from baselines.linear import Linear

STEPS_PER_DAY = 24


def kalman(steps, **options):
    t = np.arange(steps)
    return Kalman(
        steps_per_day=STEPS_PER_DAY,
        day_steps=t % STEPS_PER_DAY,
        weekdays=t // STEPS_PER_DAY % 7,
        **options,
    )


def damped_level(steps, sensors, noise, damping, seed=0):
    rng = np.random.default_rng(seed)
    level = np.zeros((steps, sensors))
    for t in range(1, steps):
        level[t] = damping * level[t - 1] + rng.normal(0, np.sqrt(1 - noise), sensors)
    return level + rng.normal(0, np.sqrt(noise), level.shape)


def hide(values, rate, seed=1):
    visible = np.random.default_rng(seed).random(values.shape) >= rate
    return np.where(visible, values, 0.0), visible


def by_dense_covariance(reading, seen, noise, damping):
    """Smoothed mean and density of all but the first reading, from the joint normal law."""
    first = DIFFUSE if damping == 1 else (1 - noise) / (1 - damping**2)
    t = np.arange(len(reading))
    variance = np.empty(len(t))
    for i in t:
        variance[i] = first if i == 0 else damping**2 * variance[i - 1] + 1 - noise
    earlier, gap = np.minimum(t[:, None], t), np.abs(t[:, None] - t)
    of_level = variance[earlier] * damping**gap
    of_reading = of_level[np.ix_(seen, seen)] + noise * np.eye(seen.sum())
    mean = of_level[:, seen] @ np.linalg.solve(of_reading, reading[seen])
    later = of_reading[1:, 1:] - np.outer(of_reading[1:, 0], of_reading[0, 1:]) / of_reading[0, 0]
    error = reading[seen][1:] - of_reading[1:, 0] / of_reading[0, 0] * reading[seen][0]
    square = error @ np.linalg.solve(later, error) / len(error)
    log_det = np.linalg.slogdet(later)[1]
    return mean, -0.5 * (len(error) * np.log(square) + log_det)


@pytest.mark.parametrize("damping", [0.7, 0.99])
def test_filter_and_smoother_equal_the_joint_normal_law(damping):
    values = damped_level(50, 4, 0.4, damping)
    reading, seen = hide(values, 0.4)
    noise = np.array([0.001, 0.2, 0.5, 0.99])
    mean = smooth(reading, seen, noise, np.full(4, damping))
    likelihood = log_likelihood(reading, seen, noise[:, None], np.full((4, 1), damping))
    for n in range(4):
        for g in range(4):
            expected = by_dense_covariance(reading[:, n], seen[:, n], noise[g], damping)
            if g == n:
                np.testing.assert_allclose(mean[:, n], expected[0], rtol=1e-6, atol=1e-8)
            if seen[0, n]:  # else the first reading is weighted, not only left out
                assert likelihood[g, n] == pytest.approx(expected[1], rel=1e-8)


def test_without_damping_the_first_variance_is_without_effect():
    values = damped_level(60, 3, 0.3, 1.0)
    reading, seen = hide(values, 0.3)
    noise = np.full(3, 0.3)
    for n, mean in enumerate(smooth(reading + 100 * seen, seen, noise, np.ones(3)).T):
        expected, _ = by_dense_covariance(reading[:, n], seen[:, n], 0.3, 1)
        np.testing.assert_allclose(mean, expected + 100, atol=1e-3)


@pytest.mark.parametrize(("noise", "damping"), [(0.3, 1.0), (0.6, 0.9)])
def test_smoother_equals_statsmodels(noise, damping):
    reading, seen = hide(damped_level(120, 1, noise, damping), 0.3)
    with_gaps = np.where(seen, reading, np.nan)[:, 0]
    if damping == 1:
        model = UnobservedComponents(with_gaps, level="local level")
        parameters = [noise, 1 - noise]
    else:
        model = UnobservedComponents(with_gaps, irregular=True, autoregressive=1)
        parameters = [noise, 1 - noise, damping]
    expected = model.smooth(parameters).smoothed_state[0]
    got = smooth(reading, seen, np.array([noise]), np.array([damping]))[:, 0]
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_profile_equals_a_loop_over_readings():
    steps, half_width = 100, 2
    rng = np.random.default_rng(2)
    values, visible = hide(rng.normal(5, 1, (steps, 2)), 0.3)
    t = np.arange(steps) + 7
    slots, kinds, prior = t % STEPS_PER_DAY, t // STEPS_PER_DAY % 2, rng.normal(size=(steps, 2))
    got = profile_of_others(values, visible, slots, kinds, prior, STEPS_PER_DAY, half_width)
    for i in range(steps):
        for n in range(2):
            total, count = prior[i, n], 1.0
            for j in range(steps):
                apart = abs(slots[i] - slots[j])
                apart = min(apart, STEPS_PER_DAY - apart)
                weight = max(1 - apart / (half_width + 1), 0) * (abs(i - j) > half_width)
                if visible[j, n] and kinds[j] == kinds[i]:
                    total, count = total + weight * values[j, n], count + weight
            assert got[i, n] == pytest.approx(total / count)


def test_a_repeated_day_is_followed_through_long_gaps():
    steps = 40 * STEPS_PER_DAY
    rng = np.random.default_rng(3)
    day = 50 + 20 * np.sin(2 * np.pi * np.arange(steps) / STEPS_PER_DAY)[:, None]
    values = day + rng.normal(0, 1, (steps, 3))
    visible = rng.random(values.shape) < 0.7
    visible[500:530] = False
    filled = kalman(steps).impute(np.where(visible, values, np.nan), visible)
    error = np.abs(filled - day)[~visible].mean()
    assert error < 0.8
    assert error < np.abs(Linear().impute(values, visible) - day)[~visible].mean() / 2


def test_parameters_are_recovered():
    steps = 3000
    values = damped_level(steps, 1, 0.3, 0.9)
    method = kalman(steps, half_widths=[])
    _, noise, damping = method._likeliest(values, np.ones((steps, 1), bool))
    assert damping[0] in (0.8, 0.9)
    assert 0.1 < noise[0] < 0.5


@pytest.mark.parametrize("steps", [5, STEPS_PER_DAY, 300])
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_edge_cases(steps, scale):
    """Constant, single, rare and silent sensors; a blackout; and whatever stands in the gaps."""
    rng = np.random.default_rng(4)
    values = (scale * rng.normal(3, 1, (steps, 6))).astype(np.float32)
    values[:, 0] = scale
    visible = rng.random(values.shape) < 0.5
    visible[:, 1:3] = False
    visible[3, 2] = True
    visible[:, 3] &= rng.random(steps) < 0.1
    visible[steps // 3 : steps // 2] = False
    visible[-1, 0] = True
    outcomes = [
        kalman(steps).impute(np.where(visible, values, np.float32(junk)), visible)
        for junk in (np.nan, 1e6, -np.inf)
    ]
    for filled in outcomes:
        np.testing.assert_array_equal(filled, outcomes[0])
        assert filled.dtype == np.float32
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_allclose(outcomes[0][:, 0], scale, rtol=1e-4)
    rows = visible.any(axis=1)
    of_step = [row[seen].mean() for row, seen in zip(values[rows], visible[rows], strict=True)]
    np.testing.assert_allclose(outcomes[0][rows, 1], of_step, rtol=1e-4)


def test_one_sensor_and_hourly_or_daily_steps():
    values = damped_level(60, 1, 0.2, 0.9)
    visible = np.random.default_rng(5).random(values.shape) < 0.6
    for steps_per_day in (1, 2, 24):
        t = np.arange(60)
        method = Kalman(
            steps_per_day=steps_per_day,
            day_steps=t % steps_per_day,
            weekdays=t // steps_per_day % 7,
        )
        assert np.isfinite(method.impute(values, visible)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": []}, "damping"),
        ({"damping": [1.1]}, "1.1"),
        ({"half_widths": [-1]}, "half_widths"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        kalman(10, **options)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="none of the 6 entries is visible"):
        kalman(3).impute(np.full((3, 2), np.nan), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="3 steps, but 4"):
        kalman(4).impute(np.ones((3, 2)), np.ones((3, 2), bool))
