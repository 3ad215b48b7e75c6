"""Which experiment a cell is: its data, its run key and the columns that name it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cell import Cell
from benchmarks.data import load_series

if TYPE_CHECKING:
    from benchmarks.data.series import Series

NO_DATA = "unavailable"
"""Stands for the dataset's fingerprint in the key of a cell whose data could not be read."""


@dataclass(frozen=True)
class Identified:
    """A cell's key and identity, and its series or the error that there was instead."""

    key: str
    identity: Mapping[str, Any]
    series: "Series | None"
    error: Exception | None = None


def identify(cell: Cell) -> Identified:
    """Reads the cell's data, once for all cells that share them, and names the cell.

    Raises:
        InputError: a value of the cell's budget that cannot be.
    """
    try:
        series = _load(as_text(cell.dataset), cell.data_root)
    except Exception as error:
        key = cell.key(NO_DATA)
        return Identified(key, cell.identity(key, NO_DATA), None, error)
    from benchmarks.masks.drawing import mask_facts  # pandas with it: for good input only

    key = cell.key(series.fingerprint, mask_facts(cell.mask["needs"], series))
    identity = cell.identity(key, series.fingerprint) | {"simulated": series.simulated}
    return Identified(key, identity, series)


def forget_series() -> None:
    """Frees the memory of the series that were read."""
    _load.cache_clear()


def as_text(part: object) -> str:
    """A part of the configuration as a text, which a cache can compare."""
    return json.dumps(part)


@lru_cache(maxsize=2)
def _load(dataset: str, data_root: Path) -> "Series":
    return load_series(json.loads(dataset), data_root)
