"""The weekly mean against plain loops, on exact cases and on hostile series."""

import numpy as np
import pytest

from baselines.week_mean import WeekMean

DAY = 6


def calendar(steps, first=0):
    """A calendar of `DAY` steps a day that opens on weekday `first`."""
    clock = np.arange(steps)
    return {
        "day_steps": clock % DAY,
        "weekdays": (first + clock // DAY) % 7,
        "steps_per_day": DAY,
    }


def gappy(steps=120, sensors=4, rate=0.5, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (steps, sensors)).astype(np.float32)
    visible = rng.random(values.shape) > rate
    return np.where(visible, values, np.float32(np.nan)), visible


def plain(values, visible, day_steps, weekdays):
    """Mean of the slot; of the step on work or free days, of the step, of the sensor if empty."""
    out = values.astype(np.float64)
    for t, n in zip(*np.nonzero(~visible), strict=True):
        same_step = day_steps == day_steps[t]
        for chosen in (
            same_step & (weekdays == weekdays[t]),
            same_step & ((weekdays >= 5) == (weekdays[t] >= 5)),
            same_step,
            np.ones(len(values), bool),
        ):
            readings = values[chosen & visible[:, n], n]
            if len(readings):
                out[t, n] = readings.mean(dtype=np.float64)
                break
    return out


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_without_smoothing_it_is_the_plain_average(rate):
    values, visible = gappy(rate=rate)
    when = calendar(len(values), first=3)
    filled = WeekMean(**when, smooth=0.0, shrink=0.0).impute(values, visible)
    expected = plain(values, visible, when["day_steps"], when["weekdays"])
    np.testing.assert_allclose(filled, expected, rtol=1e-6)


def test_shrinking_counts_the_coarser_mean_as_readings():
    values, visible = gappy(steps=20, sensors=1)
    when = calendar(20)
    filled = WeekMean(**when, smooth=0.0, shrink=0.5).impute(values, visible)
    t = int(np.flatnonzero(~visible[:, 0])[-1])
    estimate = values[visible].mean(dtype=np.float64)
    step, free, day = when["day_steps"], when["weekdays"] >= 5, when["weekdays"]
    for alike in (step == step[t], free == free[t], day == day[t]):
        readings = values[(step == step[t]) & alike & visible[:, 0], 0]
        estimate = (readings.sum(dtype=np.float64) + 0.5 * estimate) / (len(readings) + 0.5)
    assert filled[t, 0] == pytest.approx(estimate, rel=1e-6)


def test_a_weekly_pattern_is_filled_exactly():
    rng = np.random.default_rng(1)
    week = rng.normal(50, 10, (7 * DAY, 3)).astype(np.float32)
    truth = np.tile(week, (4, 1))
    visible = rng.random(truth.shape) > 0.4
    visible[: len(week)] = True
    filled = WeekMean(**calendar(len(truth)), smooth=0.0, shrink=0.0).impute(truth, visible)
    np.testing.assert_allclose(filled, truth, rtol=1e-6)


def test_smoothing_reaches_over_midnight_and_over_the_end_of_the_week():
    values = np.zeros((7 * DAY, 1), np.float32)
    values[0] = 8.0
    visible = np.ones(values.shape, bool)
    visible[-1] = visible[20] = False
    filled = WeekMean(**calendar(len(values)), smooth=1.0, shrink=0.0).impute(values, visible)
    assert filled[-1, 0] > 1 > filled[20, 0]


def test_smoothing_recovers_a_noisy_daily_wave_better():
    clock = np.arange(40 * 48)
    when = {"day_steps": clock % 48, "weekdays": clock // 48 % 7, "steps_per_day": 48}
    rng = np.random.default_rng(2)
    truth = (50 + 10 * np.sin(clock / 48 * 2 * np.pi))[:, None]
    values = (truth + rng.normal(0, 3, truth.shape)).astype(np.float32)
    visible = rng.random(values.shape) > 0.5
    errors = [
        np.abs(WeekMean(**when, **options).impute(values, visible) - truth)[~visible].mean()
        for options in ({}, {"smooth": 0.0, "shrink": 0.0})
    ]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize("options", [{}, {"smooth": 0.0, "shrink": 0.0}], ids=["default", "plain"])
@pytest.mark.parametrize("steps", [1, 5, 200])
@pytest.mark.parametrize("junk", [np.nan, 1e6])
def test_hostile_series(options, steps, junk):
    values, visible = gappy(steps, sensors=5, rate=0.95)
    visible[:, 1] = False
    visible[:, 2], values[:, 2] = True, 7.0
    visible[steps // 3 : steps // 2] = False
    visible[0, 0], values[0, 0] = True, 3.0
    method = WeekMean(**calendar(steps), **options)
    filled = method.impute(np.where(visible, values, np.float32(junk)), visible)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_allclose(filled[:, 2], 7.0, rtol=1e-6)
    clean = method.impute(np.where(visible, values, np.float32(0)), visible)
    np.testing.assert_array_equal(filled, clean)
    seen = visible.any(axis=1)
    of_step = [values[t, visible[t]].mean(dtype=np.float64) for t in np.flatnonzero(seen)]
    np.testing.assert_allclose(filled[seen, 1], of_step, rtol=1e-5)


def test_bad_input_is_named():
    when = calendar(12)
    with pytest.raises(ValueError, match="shrink=-1"):
        WeekMean(**when, shrink=-1.0)
    with pytest.raises(ValueError, match=r"day_steps reach from 0 to 5.*0\.\.3"):
        WeekMean(**{**when, "steps_per_day": 4})
    with pytest.raises(ValueError, match="has 3 steps, its calendar has 12"):
        WeekMean(**when).impute(np.ones((3, 1), np.float32), np.ones((3, 1), bool))
    with pytest.raises(ValueError, match="none of the 12 entries"):
        WeekMean(**when).impute(np.ones((12, 1), np.float32), np.zeros((12, 1), bool))
