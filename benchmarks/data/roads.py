"""Road distances and sensor positions from the csv files that come with the public datasets."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.data.csv_table import read_text
from benchmarks.data.series import shorten
from benchmarks.errors import InputError


def read_distances(path: Path, sensors: Sequence[str], only_these: bool = False) -> np.ndarray:
    """Read `from,to,cost` rows, with or without a header, as a matrix of road distances.

    Args:
        path: csv file; the ends are sensor ids (or indices, where these are the ids).
        sensors: `[n]` ids, in the order of the matrix.
        only_these: True if every end must be one of `sensors`; else other rows are left out (the
            public METR-LA file lists far more sensors than the series has).

    Returns:
        float32 `[n n]`, metres from i to j, inf = not listed, 0 on the diagonal. Of a link that is
        listed twice, the shorter.

    Raises:
        InputError: that names the line and value at fault.
    """
    index = {sensor: i for i, sensor in enumerate(sensors)}
    distances = np.full((len(index), len(index)), np.inf, dtype=np.float32)
    n_known = 0
    for line, (origin, target, cost) in _rows(path, "from,to,cost"):
        metres = _number(path, line, "cost", cost)
        if metres < 0:
            raise InputError(f"{path}: line {line}: the distance {cost} is negative")
        if origin in index and target in index:
            link = index[origin], index[target]
            distances[link] = min(distances[link], np.float32(metres))
            n_known += origin != target
        elif only_these:
            stranger = target if origin in index else origin
            raise InputError(
                f"{path}: line {line}: sensor {stranger} is none of the {len(index)} sensors, "
                f"{sensors[0]} to {sensors[-1]}"
            )
    if not n_known:
        raise InputError(
            f"{path}: links none of the {len(index)} sensors ({shorten(list(sensors), 3)}): "
            "is it the file of another dataset?"
        )
    np.fill_diagonal(distances, 0)
    return distances


def read_coordinates(path: Path, sensors: Sequence[str]) -> np.ndarray:
    """Read `[index,]sensor_id,latitude,longitude` rows, with or without a header.

    Args:
        path: csv file; it may list other sensors too.
        sensors: `[n]` ids.

    Returns:
        float64 `[n 2]`, latitude and longitude in degrees.

    Raises:
        InputError: that names the line and value at fault, or the sensors without a position.
    """
    positions = {}
    for line, (sensor, latitude, longitude) in _rows(path, "sensor_id,latitude,longitude"):
        positions[sensor] = (
            _number(path, line, "latitude", latitude),
            _number(path, line, "longitude", longitude),
        )
    unknown = [sensor for sensor in sensors if sensor not in positions]
    if unknown:
        raise InputError(f"{path}: no position of sensor {shorten(unknown)}")
    return np.array([positions[sensor] for sensor in sensors], dtype=np.float64)


def _rows(path: Path, columns: str) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yield line number and the last three cells of each row after the header, if there is one."""
    lines = read_text(path).rstrip("\n").split("\n")
    rows = list(csv.reader(lines))
    has_header = not _is_number(rows[0][-1]) if rows[0] else False
    width = len(rows[0])
    if width < 3 or width > 4 or (width == 4) != (has_header and rows[0][0] == "index"):
        raise InputError(f"{path}: line 1 has {width} columns, expected {columns}: {lines[0]!r}")
    for line, cells in enumerate(rows, start=1):
        if len(cells) != width:
            raise InputError(f"{path}: line {line} has {len(cells)} columns, expected {width}")
        if line > has_header:
            yield line, (cells[-3].strip(), cells[-2].strip(), cells[-1])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, column: str, cell: str) -> float:
    if not _is_number(cell) or not math.isfinite(float(cell)):
        raise InputError(f"{path}: line {line}, column {column}: {cell!r} is not a number")
    return float(cell)
