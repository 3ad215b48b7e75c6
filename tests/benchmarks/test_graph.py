"""Graphs from road distances: the published edge counts, and the definition."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.data import load_series
from benchmarks.data.catalog import dataset_config
from benchmarks.data.roads import read_distances
from benchmarks.data.series import Series
from benchmarks.errors import InputError
from benchmarks.graph import adjacency

INF = np.inf


def series_with(distances: Any) -> Series:
    matrix = None if distances is None else np.array(distances, dtype=np.float32)
    n_nodes = 3 if matrix is None else len(matrix)
    return Series(
        name="tiny",
        values=np.ones((2, n_nodes), dtype=np.float32),
        observed=np.ones((2, n_nodes), dtype=bool),
        time=pd.date_range("2024", periods=2, freq="5min"),
        sensors=tuple(str(i) for i in range(n_nodes)),
        unit="mph",
        distances=matrix,
    )


ROADS: list[list[float]] = [[0, 100, INF], [300, 0, 2000], [INF, INF, 0]]


def test_gaussian_is_the_definition() -> None:
    weights = adjacency(series_with(ROADS), "gaussian", threshold=0.1)
    known = [d for row in ROADS for d in row if d < INF]
    scale = np.std(known)
    for i, row in enumerate(ROADS):
        for j, metres in enumerate(row):
            weight = np.exp(-((metres / scale) ** 2))
            expected = 0.0 if i == j or weight < 0.1 else weight
            assert weights[i, j] == pytest.approx(expected, rel=1e-6)
    assert weights.dtype == np.float32
    assert np.count_nonzero(weights) == 2


def test_threshold() -> None:
    all_known = adjacency(series_with(ROADS), "gaussian", threshold=0.0)
    assert np.count_nonzero(all_known) == 3


def test_given_scale() -> None:
    weights = adjacency(series_with(ROADS), "gaussian", scale=300.0)
    assert weights[1, 0] == pytest.approx(np.exp(-1))


def test_binary_and_symmetric() -> None:
    directed = adjacency(series_with(ROADS), "binary")
    assert directed.tolist() == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    symmetric = adjacency(series_with(ROADS), "binary", force_symmetric=True)
    assert symmetric.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    larger = adjacency(series_with(ROADS), "gaussian", force_symmetric=True)
    np.testing.assert_array_equal(larger, larger.T)
    assert larger[0, 1] == adjacency(series_with(ROADS), "gaussian")[0, 1]


def test_errors() -> None:
    with pytest.raises(InputError, match="graph kind 'knn' is not one of gaussian, binary"):
        adjacency(series_with(ROADS), "knn")
    with pytest.raises(InputError, match="tiny has no road distances"):
        adjacency(series_with(None), "gaussian")
    with pytest.raises(InputError, match="no road links any two"):
        adjacency(series_with([[0, INF], [INF, 0]]), "gaussian")


@pytest.mark.parametrize(
    ("name", "n_edges", "n_isolated"),
    [
        ("metr_la_week", 1515, 1),  # the count of the DCRNN and GRIN papers
        ("metr_la_81", None, 5),
        ("pems_bay_90", None, 6),
        ("pems04_58h", 680, 0),
        ("pems08_25d", 548, 0),
    ],
)
def test_graphs_of_the_slices(
    data_root: Path, name: str, n_edges: int | None, n_isolated: int
) -> None:
    config = dataset_config(name)
    weights = adjacency(load_series(config, data_root), **config["graph"])
    neighbours = ((weights > 0) | (weights.T > 0)).sum(axis=1)
    assert n_edges in (None, np.count_nonzero(weights))
    assert (neighbours == 0).sum() == n_isolated
    assert not np.diag(weights).any()


def test_graph_of_a_slice_is_a_part_of_the_published_one(data_root: Path) -> None:
    whole, part = (
        load_series(dataset_config(name), data_root) for name in ("metr_la_week", "metr_la_81")
    )
    at = [whole.sensors.index(sensor) for sensor in part.sensors]
    published = adjacency(whole, **dataset_config("metr_la")["graph"])[np.ix_(at, at)]
    weights = adjacency(part, **dataset_config("metr_la_81")["graph"])
    np.testing.assert_allclose(weights, published, rtol=1e-5)


def test_edges_of_all_of_pems_bay(data_root: Path) -> None:
    """2369 edges, directed, as in the DCRNN and GRIN papers."""
    folder = data_root / "pems_bay_90"
    positions = (folder / "graph_sensor_locations_bay.csv").read_text().split()
    sensors = [row.split(",")[0] for row in positions]
    distances = read_distances(folder / "distances_bay_2017.csv", sensors)
    weights = adjacency(series_with(distances), **dataset_config("pems_bay")["graph"])
    assert np.count_nonzero(weights) == 2369
