"""Loader of datasets that come as an array in a `.npz` file: PeMS04 and PeMS08."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data.assemble import Table, make_series
from benchmarks.data.files import find_file, find_optional
from benchmarks.data.roads import read_distances
from benchmarks.data.series import Series
from benchmarks.errors import InputError

ARRAY = "data"


def load(
    name: str,
    data_root: Path,
    *,
    values: Sequence[str],
    start: str,
    n_sensors: int,
    n_channels: int,
    channel: int,
    unit: str,
    zeros: str,
    distances: Sequence[str] | None = None,
    step: str = "5min",
    minimum: float | None = None,
) -> Series:
    """Load one channel of the array `data` `[t n c]`; sensor ids are the indices 0 to n-1.

    Args:
        name: name of the dataset and of its folder.
        data_root: folder of the datasets.
        values: accepted names of the archive.
        start: time of the first step, which the file does not hold.
        n_sensors: number of sensors that the file must have.
        n_channels: number of channels that the file must have.
        channel: the channel to take.
        unit: unit of that channel.
        zeros: `missing` or `reading`.
        distances: accepted names of the `from,to,cost` file by sensor index; None = no roads.
        step: time between two steps.
        minimum: smallest possible value; None = any.

    Raises:
        InputError: for a missing or broken file, or another shape.
    """
    path = find_file(name, data_root, "values", values)
    array = read_array(path)
    if array.ndim != 3 or array.shape[1:] != (n_sensors, n_channels):
        raise InputError(
            f"{path}: array {ARRAY} has shape {array.shape}, expected "
            f"(steps, {n_sensors} sensors, {n_channels} channels)"
        )
    if not 0 <= channel < n_channels:
        raise InputError(f"dataset {name}: channel={channel} is not in 0 to {n_channels - 1}")
    readings = array[:, :, channel].astype(np.float64)
    if np.isinf(readings).any():
        row, sensor = np.argwhere(np.isinf(readings))[0]
        raise InputError(f"{path}: step {row}, sensor {sensor}: the value is infinite")
    sensors = [str(i) for i in range(n_sensors)]
    time = pd.date_range(start, periods=len(readings), freq=step, unit="ns")
    roads = find_optional(name, data_root, "distances", distances)
    return make_series(
        Table(pd.DataFrame(readings, index=time, columns=pd.Index(sensors, dtype=object)), path),
        name=name,
        unit=unit,
        zeros=zeros,
        step=step,
        minimum=minimum,
        distances=read_distances(roads, sensors, only_these=True) if roads else None,
    )


def read_array(path: Path) -> np.ndarray:
    """Return the array `data` of an archive; pickled objects are refused.

    Raises:
        InputError: if the archive cannot be read, or has no such array of numbers.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            names = archive.files if isinstance(archive, np.lib.npyio.NpzFile) else []
            array = archive[ARRAY] if ARRAY in names else None
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: is not a readable .npz archive ({error})") from error
    if array is None:
        raise InputError(f"{path}: has no array {ARRAY!r}, found {', '.join(names) or 'none'}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: array {ARRAY!r} holds {array.dtype}, expected numbers")
    return np.asarray(array)
