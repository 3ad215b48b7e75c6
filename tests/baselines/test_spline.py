"""Splines against plain loops, on exact cases and on hostile series."""

import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from baselines.linear import Linear
from baselines.spline import Spline

KINDS = ["pchip", "akima", "cubic"]


def gappy(steps=80, sensors=4, rate=0.5, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (steps, sensors)).astype(np.float32)
    visible = rng.random(values.shape) > rate
    return np.where(visible, values, np.float32(np.nan)), visible


def pchip_by_loop(known, readings, t):
    """Cubic Hermite pieces; slopes are Fritsch-Butland's weighted harmonic means."""
    width = np.diff(known).astype(float)
    secant = np.diff(readings) / width
    slope = np.zeros(len(known))
    for k in range(1, len(known) - 1):
        if secant[k - 1] * secant[k] > 0:
            w = 2 * width[k] + width[k - 1], width[k] + 2 * width[k - 1]
            slope[k] = sum(w) / (w[0] / secant[k - 1] + w[1] / secant[k])
    k = np.searchsorted(known, t) - 1
    s, h = (t - known[k]) / width[k], width[k]
    return (
        readings[k] * (1 + 2 * s) * (1 - s) ** 2
        + readings[k + 1] * s**2 * (3 - 2 * s)
        + h * slope[k] * s * (1 - s) ** 2
        + h * slope[k + 1] * s**2 * (s - 1)
    )


def test_pchip_equals_a_plain_loop():
    values, visible = gappy()
    filled = Spline().impute(values, visible)
    compared = 0
    for n in range(values.shape[1]):
        known = np.flatnonzero(visible[:, n])
        readings = values[known, n].astype(float)
        for t in np.flatnonzero(~visible[:, n]):
            if known[1] < t < known[-2]:  # the outermost pieces have one-sided slopes
                assert filled[t, n] == pytest.approx(pchip_by_loop(known, readings, t), rel=1e-5)
                compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    ("kind", "curve"),
    [("akima", Akima1DInterpolator), ("cubic", lambda x, y: CubicSpline(x, y, bc_type="natural"))],
)
def test_the_other_kinds_are_scipys_within_the_readings_around(kind, curve):
    values, visible = gappy()
    filled = Spline(kind=kind).impute(values, visible)
    for n in range(values.shape[1]):
        known = np.flatnonzero(visible[:, n])
        readings = values[known, n].astype(float)
        for t in np.flatnonzero(~visible[:, n]):
            i = np.searchsorted(known, t)
            around = readings[max(i - 1, 0) : i + 1]
            free = curve(known, readings)(np.clip(t, known[0], known[-1]))
            assert filled[t, n] == pytest.approx(np.clip(free, around.min(), around.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_straight_line_is_filled_exactly(kind):
    truth = np.outer(np.arange(60), [1, -2]).astype(np.float32) + 5
    visible = np.random.default_rng(0).random(truth.shape) > 0.7
    visible[[0, -1]] = True
    filled = Spline(kind=kind).impute(np.where(visible, truth, np.float32(np.nan)), visible)
    np.testing.assert_allclose(filled, truth, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smooth_slope_is_followed_more_closely_than_by_lines(kind):
    x = np.linspace(-2, 2, 121)
    truth = (50 / (1 + np.exp(-2 * x)))[:, None].astype(np.float32)
    visible = np.zeros(truth.shape, bool)
    visible[::12] = True
    errors = [
        np.abs(method.impute(truth, visible) - truth).mean()
        for method in (Spline(kind=kind), Linear())
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_gap_stays_between_its_ends(kind):
    values = np.full((300, 1), np.nan, np.float32)
    values[:4, 0], values[-4:, 0] = [0, 5, 20, 60], [61, 20, 3, 0]
    filled = Spline(kind=kind).impute(values, ~np.isnan(values))
    assert 60 <= filled[4:-4].min() <= filled[4:-4].max() <= 61


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 5, 300])
@pytest.mark.parametrize("junk", [np.nan, 1e6])
def test_hostile_series(kind, steps, junk):
    values, visible = gappy(steps, sensors=5, rate=0.95)
    visible[:, 1] = False
    visible[steps // 3 : steps // 2] = False
    values[:, 2] = 7.0
    visible[0, [0, 2]], values[0, 0] = True, 3.0
    method = Spline(kind=kind)
    filled = method.impute(np.where(visible, values, np.float32(junk)), visible)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_array_equal(filled[:, 2], 7.0)
    clean = method.impute(np.where(visible, values, np.float32(0)), visible)
    np.testing.assert_array_equal(filled, clean)
    for t in np.flatnonzero(visible.any(axis=1)):
        assert filled[t, 1] == pytest.approx(values[t, visible[t]].mean(dtype=np.float64), rel=1e-5)


def test_ends_repeat_the_nearest_reading():
    values = np.array([[np.nan, np.nan, 3, np.nan, 4, 9, np.nan]], np.float32).T
    filled = Spline().impute(values, ~np.isnan(values))
    np.testing.assert_array_equal(filled[[0, 1, 6], 0], [3, 3, 9])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"'quintic'.*pchip, akima, cubic"):
        Spline(kind="quintic")
    with pytest.raises(ValueError, match="none of the 6 entries"):
        Spline().impute(np.ones((3, 2), np.float32), np.zeros((3, 2), bool))
