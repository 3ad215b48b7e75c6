"""The real slices, the catalogue, loaders of one's own, and the checks that tell fakes apart."""

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from benchmarks.data import load_series
from benchmarks.data.authenticity import block_hash, check_file, check_series
from benchmarks.data.catalog import dataset_config, dataset_names
from benchmarks.data.loading import call_loader
from benchmarks.data.series import Series
from benchmarks.data.verify import verify
from benchmarks.errors import InputError
from benchmarks.paths import conf_dir

SLICES = ("metr_la_81", "metr_la_week", "pems04_58h", "pems08_25d", "pems_bay_90")
PUBLIC = ("metr_la", "pems_bay", "pems04", "pems08")
FACTS = [  # name, shape, start, end, share of zeros in %, unit
    ("metr_la_81", (10282, 81), "2012-05-23 07:10", "2012-06-27 23:55", 9.4, "mph"),
    ("metr_la_week", (2016, 207), "2012-03-01 00:00", "2012-03-07 23:55", 4.0, "mph"),
    ("pems_bay_90", (15642, 90), "2017-05-07 16:30", "2017-06-30 23:55", 0.0064, "mph"),
    ("pems04_58h", (694, 307), "2018-01-01", "2018-01-03 09:45", 1.97, "vehicles / 5 min"),
    ("pems08_25d", (7156, 170), "2016-08-07 03:40", "2016-08-31 23:55", 0.36, "vehicles / 5 min"),
]


@pytest.mark.parametrize(("name", "shape", "start", "end", "zeros", "unit"), FACTS)
def test_golden_facts(
    data_root: Path,
    name: str,
    shape: tuple[int, int],
    start: str,
    end: str,
    zeros: float,
    unit: str,
) -> None:
    series = load_series(dataset_config(name), data_root)
    assert series.values.shape == shape
    assert (series.time[0], series.time[-1]) == (pd.Timestamp(start), pd.Timestamp(end))
    assert 100 * series.missing_rate == pytest.approx(zeros, rel=0.05)
    assert (series.unit, series.name, series.steps_per_day) == (unit, name, 288)
    assert series.distances is not None
    assert (series.coordinates is not None) == ("pems0" not in name)


@pytest.mark.parametrize("name", SLICES)
def test_slices_verify(data_root: Path, name: str) -> None:
    checks = verify(dataset_config(name), data_root)
    assert all(check.ok for check in checks), checks
    assert "values (SHA-256)" in [check.label for check in checks]


def test_zeros_can_be_readings(data_root: Path) -> None:
    config = dataset_config("pems_bay_90")
    config["loader"]["zeros"] = "reading"
    series = load_series(config, data_root)
    assert series.observed.all()
    assert int((series.values == 0).sum()) == 90


def test_every_yaml_has_the_keys() -> None:
    assert set(SLICES + PUBLIC) <= set(dataset_names())
    for name in SLICES + PUBLIC:
        config = dataset_config(name)
        assert config["family"] in PUBLIC
        assert config["mask_seed"] == (9101112 if config["family"] == "metr_la" else 56789)
        assert config["zeros"] == config["loader"]["zeros"] == "missing"
        assert config["unit"] == config["loader"]["unit"]
        assert {"title", "graph", "expected"} <= set(config)
        assert ("sources" in config) == (name in PUBLIC) == ("slice_of" not in config)
        assert ("lice" in config["title"]) == (name in SLICES)
        assert config.get("slice_of", name) == config["family"]


def test_zeros_policy_is_one_override() -> None:
    config = OmegaConf.load(conf_dir() / "dataset" / "pems_bay.yaml")
    group = OmegaConf.merge({"dataset": config}, {"dataset": {"zeros": "reading"}})
    assert group.dataset.loader.zeros == "reading"


def test_each_slice_is_known_to_its_parent() -> None:
    for name in SLICES:
        assert name in dataset_config(dataset_config(name)["slice_of"])["expected"]["contains"]


# --- telling fakes apart --------------------------------------------------------------------


def full_metr_la(slices: Mapping[str, Series]) -> pd.DataFrame:
    """METR-LA as a file might hold it: both slices in their places, random numbers elsewhere."""
    week, part = slices["metr_la_week"], slices["metr_la_81"]
    time = pd.date_range("2012-03-01", periods=34272, freq="5min")
    values = np.random.default_rng(0).uniform(1, 70, (34272, 207))
    frame = pd.DataFrame(values, index=time, columns=list(week.sensors))
    for series in (week, part):
        readings = np.where(series.observed, series.values.astype(np.float64), 0)
        frame.loc[series.time, list(series.sensors)] = unrounded(readings)
    return frame


def unrounded(values: np.ndarray) -> np.ndarray:
    """Undo the rounding of a text to 6 digits: the readings are fractions k/q with small q."""
    distinct, where = np.unique(values, return_inverse=True)
    exact = [float(Fraction(value).limit_denominator(12)) for value in distinct.tolist()]
    assert np.abs(distinct - exact).max() < 6e-5
    return np.array(exact)[where].reshape(values.shape)


def test_full_dataset_is_known_by_its_slices(data_root: Path, tmp_path: Path) -> None:
    slices = {
        name: load_series(dataset_config(name), data_root)
        for name in ("metr_la_81", "metr_la_week")
    }
    frame = full_metr_la(slices)
    folder = tmp_path / "metr_la"
    folder.mkdir()
    for name in ("distances_la.csv", "graph_sensor_locations.csv"):
        (folder / name).write_bytes((data_root / "metr_la_week" / name).read_bytes())
    frame.to_hdf(folder / "metr-la.h5", key="df", format="fixed")
    config = dataset_config("metr_la")
    outcome = {check.label: check.ok for check in verify(config, tmp_path)}
    assert outcome.pop("metr-la.h5: bytes") is False  # it is a copy, not the public file
    assert outcome.pop("metr-la.h5: SHA-256") is False
    assert list(outcome) == [
        "graph_sensor_locations.csv: SHA-256",
        "reading",
        "shape",
        "start",
        "first sensors",
        "road links",
        "values of metr_la_81 (SHA-256)",
        "values of metr_la_week (SHA-256)",
    ]
    assert all(outcome.values()), outcome
    load_series(config, tmp_path)
    frame.loc[frame.index[30000], "767541"] = 77.7  # one of 832842 readings
    frame.to_hdf(folder / "metr-la.h5", key="df", format="fixed")
    with pytest.raises(InputError, match="metr_la are not the expected data: values of metr_la_81"):
        load_series(config, tmp_path)
    assert call_loader(config, tmp_path).n_nodes == 207
    assert load_series(config | {"expected": None}, tmp_path).n_nodes == 207


@pytest.mark.parametrize("name", SLICES)
def test_no_reading_is_near_a_limit_of_the_cells(data_root: Path, name: str) -> None:
    series = load_series(dataset_config(name), data_root)
    readings = series.values[series.observed].astype(np.float64)
    within = ((readings + 1 / 220) * 10) % 1 / 10
    assert min(within.min(), 0.1 - within.max()) > 0.004


def test_block_hash_of_what_is_not_there(data_root: Path) -> None:
    series = load_series(dataset_config("metr_la_81"), data_root)
    block = {"start": "2012-05-23 07:10", "shape": [10, 2], "sensors": ["773869", "767541"]}
    assert len(block_hash(series, block)) == 64
    assert (
        block_hash(series, block | {"start": "2011-01-01 00:00"}) == "no step at 2011-01-01 00:00"
    )
    assert "not all sensors" in block_hash(series, block | {"sensors": ["773869", "1"]})
    assert block_hash(series, block) != block_hash(series, block | {"shape": [11, 2]})


def test_a_slice_under_the_name_of_the_whole(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "pems08").symlink_to(data_root / "pems08_25d")
    config = dataset_config("pems08")
    config["loader"]["n_channels"] = 1
    with pytest.raises(InputError, match=r"shape: found \[7156, 170\], expected \[17856, 170\]"):
        load_series(config, tmp_path)


def test_identities_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"hello\n")
    identity = {
        "bytes": 6,
        "sha256": hashlib.sha256(b"hello\n").hexdigest(),
        "git_blob_sha1": "ce013625030ba8dba906f756967f9e9ca394464a",  # `git hash-object`
    }
    assert [check.ok for check in check_file(path, identity)] == [True] * 3
    path.write_bytes(b"hullo\n")
    assert [check.ok for check in check_file(path, identity)] == [True, False, False]


def test_nothing_expected(data_root: Path) -> None:
    series = load_series(dataset_config("pems04_58h") | {"expected": None}, data_root)
    assert check_series(series, None) == []


# --- loaders of one's own -------------------------------------------------------------------


def load_two_sensors(name: str, data_root: Path, level: float = 1.0) -> Series:
    return Series(
        name=name,
        values=np.full((3, 2), level, dtype=np.float32),
        observed=np.ones((3, 2), dtype=bool),
        time=pd.date_range("2024", periods=3, freq="1h"),
        sensors=("a", str(data_root.name)),
        unit="degrees Celsius",
    )


def load_nothing(name: str, data_root: Path) -> None:
    """Return no series."""


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (load_two_sensors, load_nothing):
        monkeypatch.setattr(f"benchmarks.data.files.{function.__name__}", function, raising=False)


def own_config(function: str, **options: Any) -> dict[str, Any]:
    return {"name": "own", "loader": {"_target_": f"benchmarks.data.files.{function}"} | options}


@pytest.mark.usefixtures("own")
def test_own_loader(tmp_path: Path) -> None:
    series = load_series(own_config("load_two_sensors", level=4.5), tmp_path)
    assert (series.name, series.sensors) == ("own", ("a", tmp_path.name))
    assert (series.values == 4.5).all()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (own_config("load_two_sensors", levle=1.0), "does not fit .* 'levle'"),
        (own_config("load_nothing"), "returned .*NoneType.*, not a Series"),
        (own_config("load_absent"), "cannot be imported"),
        (own_config("VARIABLE"), "is no function"),
        ({"name": "own", "loader": {"_target_": "load"}}, "must be `module.function`"),
        ({"name": "own", "loader": {"level": 1}}, "must be `module.function`"),
        ({"name": "own"}, "lacks loader: it has name"),
    ],
)
def test_bad_loaders(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_series(config, tmp_path)


@pytest.mark.parametrize("name", PUBLIC)
def test_absent_files(tmp_path: Path, name: str) -> None:
    config = dataset_config(name)
    with pytest.raises(InputError) as caught:
        load_series(config, tmp_path)
    message = str(caught.value)
    for part in (*config["loader"]["values"], str(tmp_path / name), f"fetch {name}", "PSAN_DATA"):
        assert part in message
    assert "\n" not in message


def test_roads_and_positions_can_be_left_out(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "metr_la_week").mkdir()
    values = data_root / "metr_la_week" / "METR-LA.csv.gz"
    (tmp_path / "metr_la_week" / "METR-LA.csv.gz").symlink_to(values)
    config = dataset_config("metr_la_week")
    with pytest.raises(InputError, match=r"no distances file .*dataset\.loader\.distances=null"):
        load_series(config, tmp_path)
    config["loader"] |= {"distances": None, "coordinates": None}
    series = load_series(config, tmp_path)
    assert series.distances is None
    assert series.coordinates is None


def test_catalogue_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown dataset 'metrla': choose from metr_la, "):
        dataset_config("metrla")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "own.yaml").write_text("name: other\n")
    (tmp_path / "dataset" / "child.yaml").write_text("defaults: [own]\nname: child\n")
    monkeypatch.setattr("benchmarks.data.catalog.conf_dir", lambda: tmp_path)
    with pytest.raises(InputError, match="name is 'other', expected 'own'"):
        dataset_config("own")
    with pytest.raises(InputError, match="without defaults"):
        dataset_config("child")
