"""Tables of readings as pandas HDF files of the `fixed` format, such as `metr-la.h5`.

The arrays are read with PyTables and nothing in the file is unpickled, so that a file from an
unknown place can do no harm: `pandas.read_hdf` would run whatever code its pickles hold.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from benchmarks.data.assemble import Table
from benchmarks.errors import InputError

PARTS = ("axis0", "axis1", "block0_items", "block0_values")
UNITS = ("ns", "us", "ms", "s")
YEARS = range(1980, 2101)


def read_hdf(path: Path) -> Table:
    """Read the only table of a pandas HDF file.

    Raises:
        InputError: if the file is no HDF5 or does not hold one plain table of numbers.
    """
    import tables  # heavy: only for those who have such a file

    try:
        with _nothing_unpickled(), tables.open_file(str(path), mode="r") as file:
            parts = _arrays(path, file)
    except (OSError, tables.HDF5ExtError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path}: is not a readable HDF5 file ({reason})") from error
    sensors, items = _labels(path, parts["axis0"]), _labels(path, parts["block0_items"])
    time, values = _timestamps(path, parts["axis1"]), parts["block0_values"]
    if values.shape != (len(time), len(items)) or values.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: block0_values is {values.dtype} {values.shape}, the axes say numbers "
            f"{(len(time), len(items))}"
        )
    if sorted(items) != sorted(sensors):
        raise InputError(f"{path}: not all sensors are in block 0: columns of several types")
    columns = pd.Index(items, dtype=object)
    frame = pd.DataFrame(values.astype(np.float64), index=time, columns=columns)[sensors]
    if np.isinf(frame.to_numpy()).any():
        row, column = np.argwhere(np.isinf(frame.to_numpy()))[0]
        raise InputError(f"{path}: row {row + 1}, sensor {sensors[column]}: the value is infinite")
    return Table(frame, path)


@contextmanager
def _nothing_unpickled() -> Iterator[None]:
    """Keep PyTables from unpickling node attributes, which it does by itself on opening a node."""
    from tables import attributeset

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise pickle.UnpicklingError("the file holds a pickled object")

    unpickler = attributeset.pickle
    attributeset.pickle = SimpleNamespace(loads=refuse)
    try:
        yield
    finally:
        attributeset.pickle = unpickler


def _arrays(path: Path, file: Any) -> dict[str, np.ndarray]:
    from tables import Array  # a VLArray, which may hold pickles, is none

    groups = [group for group in file.root._v_groups.values() if "block0_values" in group]
    if len(groups) != 1:
        found = ", ".join(group._v_name for group in groups) or "none"
        raise InputError(f"{path}: must hold one pandas table of the fixed format, found {found}")
    arrays = {}
    for part in PARTS:
        node = groups[0]._v_children[part] if part in groups[0] else None
        if not isinstance(node, Array):
            raise InputError(f"{path}: {groups[0]._v_name}/{part} is not a plain array")
        arrays[part] = np.asarray(node.read())
    return arrays


def _labels(path: Path, labels: np.ndarray) -> list[str]:
    if labels.ndim != 1 or labels.dtype.kind not in "Siu":
        raise InputError(f"{path}: sensor ids must be text or whole numbers, not {labels.dtype}")
    return [item.decode() if isinstance(item, bytes) else str(item) for item in labels.tolist()]


def _timestamps(path: Path, stamps: np.ndarray) -> pd.DatetimeIndex:
    """Read counts since 1970, in that unit of pandas that makes them plausible years."""
    if stamps.ndim != 1 or stamps.dtype.kind != "i" or not len(stamps):
        raise InputError(f"{path}: axis1 must hold timestamps, not {stamps.dtype} {stamps.shape}")
    for unit in UNITS:
        time = stamps.astype(f"datetime64[{unit}]")
        years = time[[0, -1]].astype("datetime64[Y]").astype(int) + 1970
        if all(int(year) in YEARS for year in years):
            return pd.DatetimeIndex(time).as_unit("ns")
    raise InputError(
        f"{path}: axis1 holds {stamps[0]}, not a time since 1970 in {', '.join(UNITS)}"
    )
