"""Masks, windows, scaler, calendar: the golden values of the published evaluation."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.calendar import step_of_day, steps_per_day, time_features
from benchmarks.errors import InputError
from benchmarks.masks import mask_hash, point, published
from benchmarks.scaling import fit_scaler
from benchmarks.windows import split_windows, windows_covering

FULL = {  # steps, sensors, seed, point rate and hash, block rate and hash
    "METR-LA": (34272, 207, 9101112, 0.2500, "28570ecb81582108", 0.0914, "43abe9315f41e77c"),
    "PEMS-BAY": (52128, 325, 56789, 0.2500, "966be4e5084bffd8", 0.0908, "871e835207a7fdf5"),
    "PeMS04": (16992, 307, 56789, 0.2499, "5c88a8fb2c8f0dbe", 0.0909, "896c2ce6d5e2b38e"),
    "PeMS08": (17856, 170, 56789, 0.2501, "033070b1f598151b", 0.0930, "d55c55daf0a2954f"),
}


def everywhere(steps: int, sensors: int) -> np.ndarray:
    """A series without a missing reading."""
    return np.ones((steps, sensors), dtype=bool)


@pytest.mark.parametrize("name", FULL)
def test_masks_are_the_published_ones_to_the_bit(name: str) -> None:
    steps, sensors, seed, point_rate, point_hash, block_rate, block_hash = FULL[name]
    drawn = point(everywhere(steps, sensors), seed, 0.25)
    assert mask_hash(drawn) == point_hash
    assert drawn.mean() == pytest.approx(point_rate, abs=5e-5)
    drawn = published(everywhere(steps, sensors), seed, p_fault=0.0015, p_noise=0.05)
    assert mask_hash(drawn) == block_hash
    assert drawn.mean() == pytest.approx(block_rate, abs=5e-5)


def test_small_masks() -> None:
    drawn = point(everywhere(500, 9), 9101112, 0.25)
    assert (drawn.sum(), mask_hash(drawn)) == (1072, "38f9d7a43b780b2e")
    drawn = published(everywhere(500, 9), 9101112, p_fault=0.0015, p_noise=0.05)
    assert (drawn.sum(), mask_hash(drawn)) == (350, "72bbc7458c57e78e")


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.25, 25.0, float("nan")])
def test_a_rate_outside_zero_and_one_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match=str(rate)):
        point(everywhere(500, 9), 1, rate)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"p_fault": 1.5, "p_noise": 0.0}, "p_fault=1.5"),
        ({"p_fault": 0.0, "p_noise": -0.1}, "p_noise=-0.1"),
        ({"p_fault": 0.0, "p_noise": 0.0}, "hide nothing"),
        ({"p_fault": 0.1, "p_noise": 0.0, "min_length": 9, "max_length": 3}, "9 to 3"),
    ],
)
def test_bad_generator_parameters_are_named(bad: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        published(everywhere(500, 9), 1, **bad)


@pytest.mark.parametrize(
    ("steps", "counts", "first_test_step"),
    [
        (34272, (24636, 2716, 6849), 27400),
        (52128, (37492, 4144, 10421), 41684),
        (16992, (12195, 1333, 3393), 13576),
        (17856, (12817, 1402, 3566), 14267),
    ],
)
def test_window_counts_are_the_published_ones(
    steps: int, counts: tuple[int, ...], first_test_step: int
) -> None:
    split = split_windows(steps)
    assert (len(split.train), len(split.validation), len(split.test)) == counts
    assert split.test[0] == first_test_step


@given(steps=st.integers(400, 4000), window=st.integers(2, 24))
def test_no_step_is_shared_between_parts(steps: int, window: int) -> None:
    split = split_windows(steps, window)
    train, validation, test = map(split.steps, (split.train, split.validation, split.test))
    assert train.stop <= validation.start
    assert validation.stop <= test.start
    assert test.stop == steps


def test_a_series_too_short_is_refused() -> None:
    with pytest.raises(InputError, match="100 steps"):
        split_windows(100)
    with pytest.raises(InputError, match="window=1"):
        split_windows(1000, window=1)


def test_coverage_counts_windows() -> None:
    plain = np.zeros(40, dtype=int)
    for start in range(10, 30):
        plain[start : start + 5] += 1
    np.testing.assert_array_equal(windows_covering(range(10, 30), 5, 40), plain)


def test_scaler_uses_visible_entries_only() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(50, 9, (200, 4)).astype("f4")
    visible = rng.random((200, 4)) < 0.6
    visible[:, 2] = False
    spoilt = np.where(visible, values, np.nan)
    for scaling in ("global", "per_sensor"):
        scaler = fit_scaler(spoilt, visible, scaling)
        np.testing.assert_array_equal(scaler.mean, fit_scaler(values, visible, scaling).mean)
        np.testing.assert_array_equal(scaler.std, fit_scaler(values, visible, scaling).std)
    flat = values[visible].astype("f8")
    pooled = fit_scaler(values, visible)
    assert pooled.mean[0] == pytest.approx(flat.mean())
    assert pooled.std[0] == pytest.approx(flat.std())
    own = fit_scaler(values, visible, "per_sensor")
    assert own.mean[0] == pytest.approx(values[visible[:, 0], 0].mean())
    assert own.std[0] == pytest.approx(values[visible[:, 0], 0].std())
    assert own.mean[2] == pooled.mean[0]


def test_scaler_errors_name_the_choices() -> None:
    with pytest.raises(InputError, match=r"'robust'.*global, per_sensor"):
        fit_scaler(np.ones((3, 2), "f4"), np.ones((3, 2), bool), "robust")
    with pytest.raises(InputError, match="no reading is visible"):
        fit_scaler(np.ones((3, 2), "f4"), np.zeros((3, 2), bool))


def test_calendar() -> None:
    time = pd.date_range("2012-03-05 06:00", periods=3 * 288, freq="5min")  # a Monday
    assert steps_per_day(time) == 288
    assert step_of_day(time)[0] == 72
    features = time_features(time, "day_week")
    np.testing.assert_allclose(
        features[0], [1, 0, np.sin(np.pi / 14), np.cos(np.pi / 14)], atol=1e-6
    )
    assert time_features(time, "day").shape == (864, 2)
    assert time_features(time, "none").shape == (864, 0)
    with pytest.raises(InputError, match=r"'hour'.*none, day, day_week"):
        time_features(time, "hour")
