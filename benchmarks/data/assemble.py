"""From a table of readings to a `Series`: complete time index, missing values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data.series import Series
from benchmarks.errors import InputError

ZEROS = ("missing", "reading")


@dataclass(frozen=True)
class Table:
    """Readings as a file holds them.

    Attributes:
        frame: float64, one column per sensor id (str), time index, NaN = missing.
        origin: the file, for messages.
        first_line: line of the first row in a text file; None where rows have no line.
    """

    frame: pd.DataFrame
    origin: Path
    first_line: int | None = None

    def where(self, row: int) -> str:
        """Say where a row (from 0) stands in the file."""
        return f"row {row + 1}" if self.first_line is None else f"line {row + self.first_line}"


def make_series(
    table: Table,
    *,
    name: str,
    unit: str,
    zeros: str,
    step: str = "5min",
    minimum: float | None = None,
    distances: np.ndarray | None = None,
    coordinates: np.ndarray | None = None,
) -> Series:
    """Put a table on a complete time index and decide which readings exist.

    Args:
        table: the readings, NaN = missing.
        name: name of the dataset.
        unit: unit of the values.
        zeros: `missing` if a zero is how the file writes a missing value, else `reading`.
        step: time between two steps; absent steps become missing readings.
        minimum: smallest possible value (a speed is never negative); None = any.
        distances: see `Series`.
        coordinates: see `Series`.

    Raises:
        InputError: that names the file, the row and the value at fault.
    """
    if zeros not in ZEROS:
        raise InputError(f"dataset {name}: zeros={zeros!r} is not one of {', '.join(ZEROS)}")
    if minimum is not None:
        _check_minimum(table, minimum)
    frame = complete_index(table, step)
    values = frame.to_numpy(dtype=np.float32, copy=True)
    if zeros == "missing":
        values[values == 0] = np.nan
    return Series(
        name=name,
        values=values,
        observed=~np.isnan(values),
        time=pd.DatetimeIndex(frame.index),
        sensors=tuple(frame.columns),
        unit=unit,
        distances=distances,
        coordinates=coordinates,
    )


def complete_index(table: Table, step: str) -> pd.DataFrame:
    """Return the readings at every step from the first to the last, NaN where a step is absent.

    Raises:
        InputError: if a timestamp is repeated, out of order or off the grid, or if more than half
            of the steps are absent (then the step is probably not the file's).
    """
    time = pd.DatetimeIndex(table.frame.index).as_unit("ns")
    width = pd.Timedelta(step)
    if len(time) < 2:
        raise InputError(f"{table.origin}: needs at least 2 time steps, found {len(time)}")
    offsets = time.asi8 - time.asi8[0]
    _check_order(table, time, np.diff(offsets))
    if (offsets % width.value).any():
        row = int(np.argmax(offsets % width.value != 0))
        raise InputError(
            f"{table.origin}: {table.where(row)}: timestamp {time[row]} is no multiple of {step} "
            f"after the first, {time[0]}"
        )
    n_steps = int(offsets[-1] // width.value) + 1
    if n_steps > 2 * len(time):
        raise InputError(
            f"{table.origin}: only {len(time)} of the {n_steps} steps of {step} from {time[0]} to "
            f"{time[-1]} are there: is the step right?"
        )
    complete = pd.date_range(time[0], time[-1], freq=width, unit="ns")
    return table.frame.set_axis(time, axis=0).reindex(complete)


def _check_order(table: Table, time: pd.DatetimeIndex, gaps: np.ndarray) -> None:
    if (gaps > 0).all():
        return
    row = int(np.argmax(gaps <= 0)) + 1
    fault = "is repeated" if gaps[row - 1] == 0 else f"is out of order, after {time[row - 1]}"
    raise InputError(f"{table.origin}: {table.where(row)}: timestamp {time[row]} {fault}")


def _check_minimum(table: Table, minimum: float) -> None:
    values = table.frame.to_numpy()
    low = np.argwhere(values < minimum)
    if len(low):
        row, column = (int(i) for i in low[0])
        raise InputError(
            f"{table.origin}: {table.where(row)}, sensor {table.frame.columns[column]}: value "
            f"{values[row, column]:g} is below {minimum:g} (a missing value is an empty cell)"
        )
