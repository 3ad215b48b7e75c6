"""Every file layout, and one clear line for every way in which a file can be broken."""

import contextlib
import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tables

from benchmarks.data import npz
from benchmarks.data.assemble import Table, complete_index, make_series
from benchmarks.data.csv_table import read_csv
from benchmarks.data.hdf_table import read_hdf
from benchmarks.data.roads import read_coordinates, read_distances
from benchmarks.data.table import load, read_table
from benchmarks.errors import InputError

TEXT = """,773869,767541
2012-03-01 00:00:00,64.375,0
2012-03-01 00:05:00,,67.125
2012-03-01 00:10:00,62.6667,nan
"""
PACKED = gzip.compress(TEXT.encode(), mtime=0)


def write(folder: Path, text: str, name: str = "values.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def frame(n_steps: int = 4, sensors: Any = ("773869", "767541"), start: str = "2012-03-01") -> Any:
    values = np.arange(1.0, n_steps * len(sensors) + 1).reshape(n_steps, len(sensors))
    time = pd.date_range(start, periods=n_steps, freq="5min")
    return pd.DataFrame(values, index=time, columns=list(sensors))


# --- csv ------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, TEXT))
    assert list(table.frame.columns) == ["773869", "767541"]
    assert table.frame.index[1] == pd.Timestamp("2012-03-01 00:05")
    expected = [[64.375, 0], [np.nan, 67.125], [62.6667, np.nan]]
    np.testing.assert_array_equal(table.frame.to_numpy(), expected)


def test_csv_variants_give_the_same(tmp_path: Path) -> None:
    plain = read_csv(write(tmp_path, TEXT)).frame
    packed = tmp_path / "values.csv.gz"
    packed.write_bytes(PACKED)
    windows = write(tmp_path, "\ufeff" + TEXT.replace("\n", "\r\n"), "windows.csv")
    quoted = write(tmp_path, TEXT.replace("64.375", '"64.375"'), "quoted.csv")
    unended = write(tmp_path, TEXT.rstrip("\n"), "unended.csv")
    for path in (packed, windows, quoted, unended):
        pd.testing.assert_frame_equal(read_csv(path).frame, plain)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("67.125", "fast", r"line 3, sensor 767541: 'fast' is not a number"),
        ("67.125", "inf", r"line 3, sensor 767541: 'inf' is not a number"),
        ("67.125", "67;1", r"line 3, sensor 767541: '67;1' is not a number"),
        (",67.125", "", r"line 3 has 2 columns, the header has 3"),
        ("67.125", "67,125", r"line 3 has 4 columns, the header has 3"),
        ("\n2012-03-01 00:05:00", "\n\n2012-03-01 00:05:00", r"line 3 has 1 columns"),
        ("2012-03-01 00:05:00", "noon", r"line 3, column 1: 'noon' is not a timestamp"),
        ("2012-03-01 00:05:00", "", r"line 3, column 1: '' is not a timestamp"),
        ("2012-03-01 00:05:00", "2012-02-30 00:05", r"line 3, column 1: '2012-02-30 00:05'"),
        ("767541", "773869", r"line 1: sensor ids appear more than once: 773869"),
        ("767541", "", r"line 1, column 3: the sensor id is empty"),
        (TEXT, TEXT.replace(",", ";"), r"line 1 has no sensor column"),
        (TEXT, TEXT.replace(":00,", ":00+00:00,"), r"without an offset"),
        (TEXT, TEXT.splitlines()[0], r"a header but no row"),
        (TEXT, "", r"the file is empty"),
    ],
)
def test_broken_csv(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", PACKED[:-9], "cannot be read"),
        ("a.csv.gz", TEXT.encode(), "cannot be read"),
        ("a.csv.gz", PACKED[:20] + b"junkjunkjunk", "cannot be read"),
        ("a.csv", b"\xff\xfe\x00a", "not UTF-8"),
        ("a.xls", b"", r"must end in one of .csv, .csv.gz, .h5"),
        ("a.h5", b"not hdf", "not a readable HDF5 file"),
    ],
)
def test_unreadable_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*No such file"):
        read_table(tmp_path / "none.csv")


# --- hdf ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensors", [("773869", "767541"), (400001, 400017)])
@pytest.mark.parametrize("unit", ["ns", "us", "s"])
def test_hdf_as_pandas_writes_it(tmp_path: Path, sensors: Any, unit: Any) -> None:
    original = frame(sensors=sensors)
    original.index = original.index.as_unit(unit)
    original.to_hdf(tmp_path / "t.h5", key="speed", format="fixed")
    table = read_hdf(tmp_path / "t.h5")
    assert list(table.frame.columns) == [str(sensor) for sensor in sensors]
    assert list(table.frame.index) == list(original.index)
    np.testing.assert_array_equal(table.frame.to_numpy(), original.to_numpy())


def test_hdf_agrees_with_csv(tmp_path: Path) -> None:
    original = frame()
    original.to_hdf(tmp_path / "t.h5", key="df", format="fixed")
    original.to_csv(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "t.h5").frame, read_table(tmp_path / "t.csv").frame, check_freq=False
    )


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore::tables.exceptions.FlavorWarning")
def test_hdf_never_unpickles(tmp_path: Path) -> None:
    path, crater = tmp_path / "t.h5", tmp_path / "crater"
    frame().to_hdf(path, key="df", format="fixed")
    with tables.open_file(str(path), "a") as file:
        for node in (file.root, file.root.df, file.root.df.axis0, file.root.df.block0_values):
            for name in ("FLAVOR", "kind", "TITLE", "VERSION"):
                node._v_attrs._g__setattr(name, np.bytes_(pickle.dumps(Bomb(crater), 0)))
    with contextlib.suppress(InputError):
        read_hdf(path)
    assert not crater.exists()
    with tables.open_file(str(path)) as file:  # it would have worked; PyTables is as it was
        assert file.root.df.axis0.attrs.kind != "string"
    assert crater.is_dir()


def test_hdf_refuses_pickled_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    frame().to_hdf(path, key="df", format="fixed")
    with tables.open_file(str(path), "a") as file:
        file.remove_node("/df/axis0")
        file.create_vlarray("/df", "axis0", tables.ObjectAtom()).append(["773869", "767541"])
    with pytest.raises(InputError, match="df/axis0 is not a plain array"):
        read_hdf(path)


def test_hdf_of_another_kind(tmp_path: Path) -> None:
    mixed = frame().assign(note="text")
    mixed.to_hdf(tmp_path / "mixed.h5", key="df", format="fixed")
    with pytest.raises(InputError, match=r"several types|plain array|numbers"):
        read_hdf(tmp_path / "mixed.h5")
    frame().to_hdf(tmp_path / "table.h5", key="df", format="table")
    with pytest.raises(InputError, match="one pandas table of the fixed format, found none"):
        read_hdf(tmp_path / "table.h5")
    for key in ("a", "b"):
        frame().to_hdf(tmp_path / "two.h5", key=key, format="fixed")
    with pytest.raises(InputError, match="found a, b"):
        read_hdf(tmp_path / "two.h5")
    numbered = frame().set_axis(range(4), axis=0)
    numbered.to_hdf(tmp_path / "numbered.h5", key="df", format="fixed")
    with pytest.raises(InputError, match="axis1 holds 0"):
        read_hdf(tmp_path / "numbered.h5")
    frame().replace(1.0, np.inf).to_hdf(tmp_path / "inf.h5", key="df", format="fixed")
    with pytest.raises(InputError, match="row 1, sensor 773869: the value is infinite"):
        read_hdf(tmp_path / "inf.h5")


# --- npz ------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "values": ["p.npz"],
    "start": "2018-01-01 00:00",
    "n_sensors": 3,
    "n_channels": 2,
    "channel": 0,
    "unit": "vehicles / 5 min",
    "zeros": "missing",
}


def test_npz(tmp_path: Path) -> None:
    data = np.arange(24.0).reshape(4, 3, 2)
    (tmp_path / "p").mkdir()
    np.savez(tmp_path / "p" / "p.npz", data=data)
    write(tmp_path, "from,to,cost\n0,1,100.5\n0,1,90\n2,1,80\n", "p/p.csv")
    series = npz.load("p", tmp_path, **OPTIONS, distances=["p.csv"])
    assert series.sensors == ("0", "1", "2")
    assert series.time[-1] == pd.Timestamp("2018-01-01 00:15")
    assert not series.observed[0, 0]
    np.testing.assert_array_equal(series.values[1:], data[1:, :, 0].astype(np.float32))
    assert series.distances is not None
    expected = [[0, 90, np.inf], [np.inf, 0, np.inf], [np.inf, 80, 0]]
    np.testing.assert_array_equal(series.distances, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.ones((4, 2, 2))}, r"shape \(4, 2, 2\), expected \(steps, 3 sensors, 2 chan"),
        ({"data": np.ones((4, 3, 3))}, r"shape \(4, 3, 3\), expected"),
        ({"data": np.ones((4, 3))}, r"shape \(4, 3\), expected"),
        ({"flow": np.ones((4, 3, 2))}, "has no array 'data', found flow"),
        ({"data": np.full((4, 3, 2), "a")}, "expected numbers"),
        ({"data": np.full((4, 3, 2), None)}, "not a readable .npz"),
        ({"data": np.full((4, 3, 2), np.inf)}, "step 0, sensor 0: the value is infinite"),
    ],
)
def test_broken_npz(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    (tmp_path / "p").mkdir()
    np.savez(tmp_path / "p" / "p.npz", **content)
    with pytest.raises(InputError, match=message):
        npz.load("p", tmp_path, **OPTIONS)


def test_unreadable_npz(tmp_path: Path) -> None:
    path = tmp_path / "p" / "p.npz"
    path.parent.mkdir()
    np.savez_compressed(path, data=np.arange(24.0).reshape(4, 3, 2))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a readable \.npz"):
            npz.load("p", tmp_path, **OPTIONS)
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputError, match="no array 'data', found none"):
        npz.load("p", tmp_path, **OPTIONS)


def test_npz_roads_must_be_of_its_sensors(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    np.savez(tmp_path / "p" / "p.npz", data=np.ones((4, 3, 2)))
    write(tmp_path, "from,to,cost\n0,1,1\n0,3,1\n", "p/p.csv")
    with pytest.raises(InputError, match="line 3: sensor 3 is none of the 3 sensors, 0 to 2"):
        npz.load("p", tmp_path, **OPTIONS, distances=["p.csv"])
    with pytest.raises(InputError, match="channel=2 is not in 0 to 1"):
        npz.load("p", tmp_path, **OPTIONS | {"channel": 2})


# --- time index and zeros -------------------------------------------------------------------


def table_of(time: Any) -> Table:
    index = pd.DatetimeIndex(time)
    data = pd.DataFrame({"a": np.arange(1.0, len(index) + 1)}, index=index)
    return Table(data, Path("a.csv"), first_line=2)


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (["2024-01-01 00:00"], "at least 2 time steps"),
        (["2024-01-01 00:00", "2024-01-01 00:05", "2024-01-01 00:05"], "line 4: .* is repeated"),
        (["2024-01-01 00:05", "2024-01-01 00:00"], "line 3: .* is out of order, after"),
        (["2024-01-01 00:00", "2024-01-01 00:07"], "line 3: .*00:07:00 is no multiple of 5min"),
        (["2024-01-01 00:00", "2024-01-01 01:00"], "only 2 of the 13 steps .* is the step right"),
        (["2024-01-01 00:00", "2074-01-01 00:00"], "is the step right"),
    ],
)
def test_bad_times(time: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete_index(table_of(time), "5min")


def test_absent_steps_become_missing() -> None:
    time = ["2024-01-01 00:00", "2024-01-01 00:05", "2024-01-01 00:15"]
    series = make_series(table_of(time), name="a", unit="mph", zeros="reading")
    assert series.observed[:, 0].tolist() == [True, True, False, True]
    assert len(series.time) == 4


def test_zeros_policy() -> None:
    table = table_of(pd.date_range("2024", periods=3, freq="5min"))
    table.frame.iloc[1, 0] = 0.0
    observed = {
        zeros: make_series(table, name="a", unit="mph", zeros=zeros).observed[:, 0].tolist()
        for zeros in ("missing", "reading")
    }
    assert observed == {"missing": [True, False, True], "reading": [True, True, True]}
    with pytest.raises(InputError, match="zeros='drop' is not one of missing, reading"):
        make_series(table, name="a", unit="mph", zeros="drop")


def test_negative_values() -> None:
    table = table_of(pd.date_range("2024", periods=3, freq="5min"))
    table.frame.iloc[1, 0] = -7.5
    with pytest.raises(InputError, match=r"a.csv: line 3, sensor a: value -7.5 is below 0"):
        make_series(table, name="a", unit="mph", zeros="missing", minimum=0.0)
    make_series(table, name="a", unit="degrees Celsius", zeros="reading")


def test_clock_change_of_pems_bay_at_full_size(tmp_path: Path) -> None:
    time = pd.date_range("2017-01-01", "2017-06-30 23:55", freq="5min")
    lost = (time.date == pd.Timestamp("2017-03-12").date()) & (time.hour == 2)
    values = np.random.default_rng(0).uniform(1, 80, (len(time), 325)).round(1)
    original = pd.DataFrame(values, index=time, columns=list(range(400001, 400326)))
    (tmp_path / "bay").mkdir()
    original[~lost].to_hdf(tmp_path / "bay" / "pems-bay.h5", key="speed", format="fixed")
    series = load("bay", tmp_path, values=["pems-bay.h5"], unit="mph", zeros="missing")
    assert (~lost).sum() == 52116
    assert series.values.shape == (52128, 325)
    assert series.sensors[0] == "400001"
    np.testing.assert_array_equal(series.observed.all(axis=1), ~lost)
    np.testing.assert_array_equal(series.values[~lost], values[~lost].astype(np.float32))


# --- roads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["from,to,cost\n", ""])
def test_distances(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, header + "7,7,0.0\n7,9,12.5\n9,7,30\n1,7,1\n")
    distances = read_distances(path, ["9", "7"])
    assert distances.dtype == np.float32
    np.testing.assert_array_equal(distances, np.array([[0, 30], [12.5, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "index,sensor_id,latitude,longitude\n0,7,34.1,-118.5\n1,9,34.2,-118.25\n",
        "sensor_id,latitude,longitude\n7,34.1,-118.5\n9,34.2,-118.25\n",
        "7,34.1,-118.5\n9,34.2,-118.25\n8,1,1",
    ],
)
def test_coordinates(tmp_path: Path, text: str) -> None:
    coordinates = read_coordinates(write(tmp_path, text), ["9", "7"])
    np.testing.assert_array_equal(coordinates, [[34.2, -118.25], [34.1, -118.5]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from,to,cost\n7,9,far\n", "line 2, column cost: 'far' is not a number"),
        ("from,to,cost\n7,9,nan\n", "line 2, column cost: 'nan' is not a number"),
        ("7,9,-1\n", "line 1: the distance -1 is negative"),
        ("7,9,1\n7,9\n", "line 2 has 2 columns, expected 3"),
        ("7;9;1\n", "line 1 has 1 columns, expected from,to,cost"),
        ("7,9,1,2\n", "line 1 has 4 columns, expected from,to,cost"),
        ("1,2,3\n", "links none of the 2 sensors"),
        ("7,7,0\n", "links none of the 2 sensors"),
        ("", "the file is empty"),
    ],
)
def test_broken_distances(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_distances(write(tmp_path, text), ["9", "7"])


def test_broken_coordinates(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no position of sensor 9"):
        read_coordinates(write(tmp_path, "7,34.1,-118.5\n"), ["9", "7"])
    with pytest.raises(InputError, match="line 2, column latitude: 'north' is not a number"):
        read_coordinates(write(tmp_path, "7,34.1,-118.5\n9,north,3\n"), ["9", "7"])
