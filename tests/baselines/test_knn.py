"""Nearest neighbours on the graph against plain loops, on exact cases and on hostile series."""

import numpy as np
import pytest
import torch

from baselines.knn import KNN, nearest


def line(n, weight=0.5):
    """A road: each sensor is joined to the next, in one direction."""
    return torch.diag(torch.full((n - 1,), weight), 1)


def gappy(steps=60, sensors=6, rate=0.5, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (steps, sensors)) * np.arange(1, sensors + 1)
    visible = rng.random(values.shape) > rate
    return np.where(visible, values, np.nan).astype(np.float32), visible


def by_loop(values, visible, neighbours):
    out = values.astype(np.float64)
    for t, n in zip(*np.nonzero(~visible), strict=True):
        seen = [values[t, m] for m in neighbours[n] if visible[t, m]]
        out[t, n] = np.mean(seen or values[visible[:, n], n], dtype=np.float64)
    return out


@pytest.mark.parametrize("rate", [0.3, 0.8])
def test_equals_a_plain_loop(rate):
    values, visible = gappy(rate=rate)
    neighbours = [[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 3]]
    filled = KNN(adjacency=line(6), k=2).impute(values, visible)
    np.testing.assert_allclose(filled, by_loop(values, visible, neighbours), rtol=1e-5)


def test_neighbours_come_by_weight_then_along_paths():
    adjacency = np.zeros((6, 6))
    adjacency[0, 1], adjacency[2, 0], adjacency[1, 3], adjacency[3, 4] = 0.2, 0.9, 0.9, 0.1
    found = [np.flatnonzero(nearest(adjacency, k)[0]).tolist() for k in (1, 2, 3, 4, 10)]
    assert found == [[2], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]]
    assert not nearest(adjacency, 10)[5].any()


@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
def test_a_direct_neighbour_is_nearer_than_one_two_edges_away(weight):
    adjacency = np.zeros((3, 3))
    adjacency[0, 2], adjacency[0, 1], adjacency[1, 2] = 0.1, 1.0, weight
    assert np.flatnonzero(nearest(adjacency, 2)[0]).tolist() == [1, 2]
    assert np.flatnonzero(nearest(adjacency, 1)[2]).tolist() == [1 if weight > 0.1 else 0]


def test_neighbours_in_a_binary_graph_come_by_hops():
    found = nearest(line(9, 1.0).numpy().astype(float), 3)
    assert np.flatnonzero(found[0]).tolist() == [1, 2, 3]
    assert np.flatnonzero(found[4]).tolist() == [2, 3, 5]


def test_standardised_readings_recover_sensors_that_move_together():
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1, (400, 1)) * [1, 5, 20, 3] + [0, 100, 50, -9]
    visible = rng.random(truth.shape) > 0.3
    visible[:, 3] = True
    values = np.where(visible, truth, np.nan).astype(np.float32)
    errors = [
        np.abs(KNN(adjacency=line(4), standardise=s).impute(values, visible) - truth)[~visible]
        for s in (True, False)
    ]
    assert errors[0].mean() < 0.1 * errors[1].mean()


@pytest.mark.parametrize("standardise", [False, True])
def test_a_sensor_without_readings_gets_its_neighbours_mean(standardise):
    values, visible = gappy(sensors=3, rate=0.0)
    visible[:, 1] = False
    filled = KNN(adjacency=line(3), standardise=standardise).impute(values, visible)
    if not standardise:
        np.testing.assert_allclose(filled[:, 1], values[:, [0, 2]].mean(axis=1), rtol=1e-6)
    level, spread = values.mean(axis=0), values.std(axis=0)
    assert level[0] < filled[:, 1].mean() < level[2]
    assert filled[:, 1].std() < spread[2]


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("sensors", [1, 5])
@pytest.mark.parametrize("steps", [1, 5, 200])
@pytest.mark.parametrize("junk", [np.nan, 1e6])
def test_hostile_series(standardise, sensors, steps, junk):
    values, visible = gappy(steps, sensors, rate=0.95)
    visible[steps // 3 : steps // 2] = False
    visible[0, 0] = True
    values[:, 0] = 7.0
    visible[:, sensors // 2] &= sensors == 1
    method = KNN(adjacency=line(sensors), k=2, standardise=standardise)
    filled = method.impute(np.where(visible, values, np.float32(junk)), visible)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[visible], values[visible])
    clean = method.impute(np.where(visible, values, np.float32(0)), visible)
    np.testing.assert_array_equal(filled, clean)


def test_sensors_without_edges_fall_back():
    values = np.array([[1, 3, np.nan], [np.nan, 5, np.nan], [np.nan] * 3], np.float32)
    filled = KNN(adjacency=torch.zeros(3, 3)).impute(values, ~np.isnan(values))
    np.testing.assert_array_equal(filled, [[1, 3, 2], [1, 5, 5], [1, 4, 3]])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k=0"):
        KNN(adjacency=line(3), k=0)
    with pytest.raises(ValueError, match="none of the 6 entries"):
        KNN(adjacency=line(2)).impute(np.ones((3, 2), np.float32), np.zeros((3, 2), bool))
