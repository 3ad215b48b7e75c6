"""Tables of readings as text: first column timestamp, then one column per sensor id."""

import csv
import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data.assemble import Table
from benchmarks.data.series import shorten
from benchmarks.errors import InputError

MISSING = ["", "nan", "NaN", "NA", "N/A", "null", "None"]


def read_csv(path: Path) -> Table:
    """Read a `.csv` or `.csv.gz`; empty cells and `nan` are missing.

    Raises:
        InputError: that names the file, line, column and value at fault.
    """
    text = read_text(path)
    lines = text.rstrip("\n").split("\n")
    sensors = _header(path, lines[0])
    _check_widths(path, lines, len(sensors) + 1)
    frame = _parse(path, text, sensors)
    frame.index = _timestamps(path, frame.index.to_series())
    return Table(frame, path, first_line=2)


def read_text(path: Path) -> str:
    """Return the text of a file, unpacked if its name ends in `.gz`, with Unix line ends."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error})") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    return text.replace("\r\n", "\n")


def _header(path: Path, line: str) -> list[str]:
    sensors = [cell.strip() for cell in next(csv.reader([line]))[1:]]
    if not sensors:
        raise InputError(f"{path}: line 1 has no sensor column: are the columns split by commas?")
    for column, sensor in enumerate(sensors, start=2):
        if not sensor:
            raise InputError(f"{path}: line 1, column {column}: the sensor id is empty")
    repeated = [sensor for i, sensor in enumerate(sensors) if sensor in sensors[:i]]
    if repeated:
        raise InputError(f"{path}: line 1: sensor ids appear more than once: {shorten(repeated)}")
    return sensors


def _check_widths(path: Path, lines: list[str], width: int) -> None:
    """Pandas fills short rows with NaN in silence: refuse them."""
    if len(lines) < 2:
        raise InputError(f"{path}: there is a header but no row of readings")
    for number, line in enumerate(lines[1:], start=2):
        n_cells = line.count(",") + 1
        if n_cells != width and '"' in line:
            n_cells = len(next(csv.reader([line])))
        if n_cells != width:
            raise InputError(f"{path}: line {number} has {n_cells} columns, the header has {width}")


def _parse(path: Path, text: str, sensors: list[str]) -> pd.DataFrame:
    types: dict[int, Any] = {0: str} | dict.fromkeys(range(1, len(sensors) + 1), np.float64)
    missing: dict[Any, list[str]] = dict.fromkeys(range(1, len(sensors) + 1), MISSING)
    try:
        frame: pd.DataFrame = pd.read_csv(
            io.StringIO(text),
            header=None,
            skiprows=1,
            index_col=0,
            dtype=types,
            na_values=missing,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except ValueError as error:
        raise _first_bad_number(path, text, sensors) or InputError(f"{path}: {error}") from error
    frame.columns = pd.Index(sensors, dtype=object)
    if np.isinf(frame.to_numpy()).any():
        raise _first_bad_number(path, text, sensors) or InputError(f"{path}: has infinite values")
    return frame


def _first_bad_number(path: Path, text: str, sensors: list[str]) -> InputError | None:
    for number, cells in enumerate(csv.reader(io.StringIO(text)), start=1):
        for sensor, cell in zip(sensors, cells[1:], strict=True):
            if number > 1 and not _is_number(cell):
                return InputError(
                    f"{path}: line {number}, sensor {sensor}: {cell!r} is not a number"
                )
    return None


def _is_number(cell: str) -> bool:
    cell = cell.strip()
    try:
        return cell in MISSING or bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _timestamps(path: Path, cells: pd.Series) -> pd.DatetimeIndex:
    try:
        time = pd.DatetimeIndex(pd.to_datetime(cells, format="ISO8601", errors="coerce"))
    except ValueError as error:
        raise InputError(f"{path}: column 1: timestamps cannot be read ({error})") from error
    if time.hasnans:
        row = int(np.argmax(time.isna()))
        raise InputError(
            f"{path}: line {row + 2}, column 1: {cells.iloc[row]!r} is not a timestamp such as "
            "2012-03-01 00:05:00"
        )
    if time.tz is not None:
        raise InputError(f"{path}: timestamps must be local, without an offset ({time.tz})")
    return time.as_unit("ns").rename(None)
