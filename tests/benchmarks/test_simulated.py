import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks.data.catalog import dataset_config
from benchmarks.data.loading import load_series
from benchmarks.data.series import Series
from benchmarks.data.simulated import FILE, MISSING, load

SCRIPT = Path(__file__).parents[2] / "scripts" / "simulate_network.py"
EARTH_RADIUS = 6_371_000  # metres


@pytest.fixture(scope="module")
def series() -> Series:
    return load()


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_network", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_says_that_it_is_simulated(series: Series) -> None:
    config = dataset_config("simulated")
    assert series.simulated
    assert config["simulated"]
    assert config["title"].startswith("Simulated")


def test_shape_time_and_unit(series: Series) -> None:
    assert series.values.shape == (28 * 288, 52)
    assert series.values.dtype == np.float32
    assert series.steps_per_day == 288
    assert f"{series.time[0]:%A %Y-%m-%d %H:%M}" == "Monday 2024-01-01 00:00"
    assert series.unit == "mph"


def test_configuration_loads_it_without_a_data_folder(series: Series, tmp_path: Path) -> None:
    loaded = load_series(dataset_config("simulated"), tmp_path / "absent")
    assert loaded.fingerprint == series.fingerprint


def test_file_is_small() -> None:
    assert FILE.stat().st_size < 1_000_000


def test_speeds_are_plausible(series: Series) -> None:
    speeds = series.values[series.observed]
    assert speeds.min() >= 1
    assert speeds.max() < 85
    assert 60 < np.median(speeds) < 70
    assert 0.02 < (speeds < 40).mean() < 0.2
    assert 0.005 < series.missing_rate < 0.03


def test_weekends_have_no_rush_hours(series: Series) -> None:
    weekend = np.asarray(series.time.day_of_week >= 5)
    rush = np.isin(series.time.hour, (8, 17))
    slow = np.where(series.observed, series.values < 40, False)
    assert slow[rush & ~weekend].mean() > 0.1
    assert slow[rush & weekend].mean() < 0.05


def test_neighbours_agree_more_than_strangers(series: Series) -> None:
    typical = np.nanmedian(series.values.reshape(28, 288, -1), axis=0)
    unusual = np.nan_to_num(series.values - np.tile(typical, (28, 1)))
    correlation = np.corrcoef(unusual.T)
    assert series.distances is not None
    apart = ~np.eye(series.n_nodes, dtype=bool)
    near = apart & (series.distances < 1500)
    far = apart & ~np.isfinite(series.distances) & ~np.isfinite(series.distances.T)
    assert correlation[near].mean() > correlation[far].mean() + 0.1


def test_incidents_slow_the_traffic(series: Series) -> None:
    with np.load(FILE, allow_pickle=False) as archive:
        incidents = archive["incidents"]
    assert len(incidents) > 28
    typical = np.tile(np.nanmedian(series.values.reshape(28, 288, -1), axis=0), (28, 1))
    drops = [
        np.nanmean((typical - series.values)[first:behind, sensor])
        for sensor, first, behind in incidents
        if series.observed[first:behind, sensor].any()
    ]
    assert np.mean(drops) > 10


def test_roads_are_not_shorter_than_straight_lines(series: Series) -> None:
    assert series.coordinates is not None
    assert series.distances is not None
    metres = np.radians(series.coordinates) * EARTH_RADIUS  # flat enough near latitude 0
    straight = np.linalg.norm(metres[:, None] - metres[None, :], axis=-1)
    linked = np.isfinite(series.distances)
    assert (series.distances >= straight - 1)[linked].all()
    assert 3 * series.n_nodes < linked.sum() < series.n_nodes**2 / 2
    ahead = np.where(series.distances > 0, series.distances, np.inf).min(axis=1)
    assert (ahead[np.isfinite(ahead)] > 600).all()
    assert (ahead[np.isfinite(ahead)] < 2000).all()


def test_script_made_the_roads(series: Series, script: ModuleType) -> None:
    assert series.distances is not None
    assert series.coordinates is not None
    network = script.build_network()
    assert tuple(network.sections) == series.sensors
    np.testing.assert_allclose(script.road_distances(network), series.distances, rtol=1e-6)
    degrees = script.positions(network)[:, ::-1] / script.METRES_PER_DEGREE
    np.testing.assert_allclose(degrees, series.coordinates, atol=1e-9)


def test_script_makes_the_first_day_again(tmp_path: Path) -> None:
    pytest.importorskip("uxsim", reason="uxsim, needed only to make the file again, is missing")
    output = tmp_path / "again.npz"
    subprocess.run([sys.executable, str(SCRIPT), str(output), "--days", "1"], check=True)
    again, packaged = (tenths(path)[:, :288] for path in (output, FILE))
    both = (again != MISSING) & (packaged != MISSING)  # gaps are drawn for all days at once
    assert both.mean() > 0.9
    np.testing.assert_array_equal(again[both], packaged[both])


def tenths(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        high, low = archive["tenths_of_mph"].astype(int)
    both: np.ndarray = 256 * high + low
    return both
