"""Loader of datasets that come as one table: `.csv`, `.csv.gz` or pandas `.h5`."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.assemble import Table, make_series
from benchmarks.data.csv_table import read_csv
from benchmarks.data.files import find_file, find_optional
from benchmarks.data.hdf_table import read_hdf
from benchmarks.data.roads import read_coordinates, read_distances
from benchmarks.data.series import Series
from benchmarks.errors import InputError

READERS = {".csv": read_csv, ".csv.gz": read_csv, ".h5": read_hdf, ".hdf5": read_hdf}


def load(
    name: str,
    data_root: Path,
    *,
    values: Sequence[str],
    unit: str,
    zeros: str,
    distances: Sequence[str] | None = None,
    coordinates: Sequence[str] | None = None,
    step: str = "5min",
    minimum: float | None = None,
) -> Series:
    """Load `<data_root>/<name>/`; each of the three file keys lists the accepted names.

    Args:
        name: name of the dataset and of its folder.
        data_root: folder of the datasets.
        values: table files.
        unit: unit of the values.
        zeros: `missing` or `reading`.
        distances: `from,to,cost` files by sensor id, in metres; None = no road network.
        coordinates: position files; None = no positions.
        step: time between two steps.
        minimum: smallest possible value; None = any.

    Raises:
        InputError: for a missing or broken file.
    """
    table = read_table(find_file(name, data_root, "values", values))
    sensors = list(table.frame.columns)
    roads = find_optional(name, data_root, "distances", distances)
    positions = find_optional(name, data_root, "coordinates", coordinates)
    return make_series(
        table,
        name=name,
        unit=unit,
        zeros=zeros,
        step=step,
        minimum=minimum,
        distances=read_distances(roads, sensors) if roads else None,
        coordinates=read_coordinates(positions, sensors) if positions else None,
    )


def read_table(path: Path) -> Table:
    """Read a table of readings by the ending of its name.

    Raises:
        InputError: for another ending, or a missing or broken file.
    """
    for ending, reader in READERS.items():
        if path.name.endswith(ending):
            return reader(path)
    raise InputError(f"{path}: the name must end in one of {', '.join(READERS)}")
