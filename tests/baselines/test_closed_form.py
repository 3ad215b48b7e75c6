"""Mean, last observation and linear interpolation against plain loops."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.gaps import next_visible, previous_visible
from baselines.last import Last
from baselines.linear import Linear
from baselines.mean import Mean

METHODS = [Mean(), Last(), Linear()]
IDS = ["mean", "last", "linear"]


def mean_by_loop(series, seen):
    return np.full(len(series), series[seen].mean(dtype=np.float64))


def last_by_loop(series, seen):
    latest, out = series[seen][0], []
    for value, visible in zip(series, seen, strict=True):
        latest = value if visible else latest
        out.append(latest)
    return np.array(out)


def linear_by_loop(series, seen):
    return np.interp(np.arange(len(series)), np.flatnonzero(seen), series[seen])


LOOPS = [mean_by_loop, last_by_loop, linear_by_loop]


@st.composite
def gappy_series(draw):
    """Values and mask, [t n]; NaN where not visible; at least one entry is visible."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 4)))
    values = draw(arrays.arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)))
    visible = draw(arrays.arrays(bool, shape))
    visible[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    return np.where(visible, values, np.float32(np.nan)), visible


@pytest.mark.parametrize(("method", "loop"), list(zip(METHODS, LOOPS, strict=True)), ids=IDS)
@given(series=gappy_series())
@settings(max_examples=60, deadline=None)
def test_equals_a_plain_loop(method, loop, series):
    values, visible = series
    filled = method.impute(values, visible)
    everywhere = values[visible].mean(dtype=np.float64)
    for n in range(values.shape[1]):
        if visible[:, n].any():
            expected = loop(values[:, n], visible[:, n])
            expected = np.where(visible[:, n], values[:, n], expected)
        else:
            rows = [row[seen] for row, seen in zip(values, visible, strict=True)]
            expected = [row.mean(dtype=np.float64) if len(row) else everywhere for row in rows]
        np.testing.assert_allclose(filled[:, n], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@given(series=gappy_series(), junk=st.sampled_from([np.inf, -1e9, 0.0]))
@settings(max_examples=30, deadline=None)
def test_hidden_values_change_nothing(method, series, junk):
    values, visible = series
    filled = method.impute(values, visible)
    assert filled.dtype == values.dtype
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    soiled = np.where(visible, values, np.float32(junk))
    np.testing.assert_array_equal(method.impute(soiled, visible), filled)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Mean(), [[4, 1], [4, 1], [2, 4], [4, 7], [6, 7], [4, 4]]),
        (Last(), [[2, 1], [2, 1], [2, 1], [2, 7], [6, 7], [6, 7]]),
        (Linear(), [[2, 1], [2, 1], [2, 4], [4, 7], [6, 7], [6, 7]]),
    ],
    ids=IDS,
)
def test_edges_and_inner_gaps(method, expected):
    nan = np.nan
    values = np.array([[nan, 1], [nan, 1], [2, nan], [nan, 7], [6, 7], [nan, nan]], np.float32)
    np.testing.assert_array_equal(method.impute(values, ~np.isnan(values)), expected)


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_sensor_with_nothing_visible_gets_the_mean_of_the_others(method):
    values = np.array([[1, 3, np.nan], [5, np.nan, np.nan], [np.nan] * 3], np.float32)
    filled = method.impute(values, ~np.isnan(values))
    np.testing.assert_array_equal(filled[:, 2], [2, 5, 3])


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_nothing_visible_is_an_error(method):
    with pytest.raises(ValueError, match="none of the 6 entries is visible"):
        method.impute(np.full((3, 2), np.nan, np.float32), np.zeros((3, 2), bool))


def test_neighbouring_readings_by_index():
    visible = np.array([[0, 1, 0, 0, 1, 0]], bool).T
    assert previous_visible(visible).ravel().tolist() == [-1, 1, 1, 1, 4, 4]
    assert next_visible(visible).ravel().tolist() == [1, 1, 4, 4, 4, 6]


def test_linear_on_real_traffic(data_root):
    """Same error as an independent computation, on the last fifth of the PeMS08 slice."""
    with np.load(data_root / "pems08_25d" / "PEMS08.npz") as archive:
        flow = archive["data"][..., 0].astype(np.float32)
    rng = np.random.default_rng(56789)
    rng.random((*flow.shape, 1))
    held_out = (rng.random((*flow.shape, 1)) < 0.25)[..., 0] & (flow != 0)
    visible = (flow != 0) & ~held_out
    error = np.abs(Linear().impute(np.where(visible, flow, np.float32(np.nan)), visible) - flow)
    n_test = int(0.2 * len(flow))
    assert error[-n_test:][held_out[-n_test:]].mean() == pytest.approx(13.065, abs=0.001)
