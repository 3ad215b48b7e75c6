"""Is this the real data? Public fakes exist: random numbers under the names of public files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data.catalog import dataset_config
from benchmarks.data.series import Series

# Public copies of one dataset differ in decimals (text of 6 digits, float32, float64), so values
# are compared in cells of 0.1. The readings are whole numbers, decimals, or means of up to 12
# readings; of all their fractions k/q, q <= 12, none is nearer than 0.0045 to a limit of the cells
# when these are moved by 1/220. Rounding to 6 digits moves a reading by 0.00005 at most.
CELLS_PER_UNIT = 10
CELL_SHIFT = 1 / 220


@dataclass(frozen=True)
class Check:
    """The outcome of one comparison."""

    label: str
    ok: bool
    detail: str


def check_series(series: Series, expected: Mapping[str, Any] | None) -> list[Check]:
    """Compare a series with known facts, each optional.

    Args:
        series: what was loaded.
        expected: `shape` (steps, sensors), `start`, `first_sensors`, `links` (listed road links
            between two different sensors), `sha256` (see `block_hash`), `contains` (names of
            slices of which this series must hold every value).
    """
    facts = dict(expected or {})
    checks = []
    if "shape" in facts:
        checks.append(_compare("shape", list(series.values.shape), list(facts["shape"])))
    if "start" in facts:
        checks.append(_compare("start", f"{series.time[0]:%Y-%m-%d %H:%M}", facts["start"]))
    if "first_sensors" in facts:
        first = list(series.sensors[: len(facts["first_sensors"])])
        checks.append(_compare("first sensors", first, list(facts["first_sensors"])))
    if "links" in facts and series.distances is not None:
        n_links = int(np.isfinite(series.distances).sum()) - series.n_nodes
        checks.append(_compare("road links", n_links, facts["links"]))
    if "sha256" in facts:
        checks.append(_compare("values (SHA-256)", block_hash(series, facts), facts["sha256"]))
    for name in facts.get("contains", ()):
        block = dataset_config(name)["expected"]
        label = f"values of {name} (SHA-256)"
        checks.append(_compare(label, block_hash(series, block), block["sha256"]))
    return checks


def block_hash(series: Series, block: Mapping[str, Any]) -> str:
    """Hash a block of a series: sensor ids and values in cells of 0.1, missing ones as 0.

    The result does not depend on the file format, nor on whether zeros count as readings.

    Args:
        series: any series that may hold the block.
        block: `start`, `shape` and, if not all sensors of the series, `sensors`.

    Returns:
        hexadecimal SHA-256, or why the block is not there.
    """
    start = f"{block['start']}:00"
    if start not in series.time:
        return f"no step at {block['start']}"
    sensors = [str(sensor) for sensor in block.get("sensors") or series.sensors]
    columns = _columns(series, sensors)
    if columns is None:
        return "not all sensors of the block are there"
    first = int(np.argmax(series.time == pd.Timestamp(start)))
    rows = slice(first, first + int(block["shape"][0]))
    readings = np.where(series.observed, series.values, 0)[rows][:, columns].astype(np.float64)
    cells = np.floor((readings + CELL_SHIFT) * CELLS_PER_UNIT).astype("<i4")
    digest = hashlib.sha256(f"{cells.shape} {','.join(sensors)}\n".encode())
    digest.update(cells.tobytes())
    return digest.hexdigest()


def check_file(path: Path, source: Mapping[str, Any]) -> list[Check]:
    """Compare a file with the identities known of it: `bytes`, `sha256`, `git_blob_sha1`."""
    checks = []
    if "bytes" in source:
        checks.append(_compare(f"{path.name}: bytes", path.stat().st_size, source["bytes"]))
    if "sha256" in source:
        digest = _digest(path, hashlib.sha256())
        checks.append(_compare(f"{path.name}: SHA-256", digest, source["sha256"]))
    if "git_blob_sha1" in source:
        header = f"blob {path.stat().st_size}\0".encode()
        digest = _digest(path, hashlib.sha1(header, usedforsecurity=False))
        checks.append(_compare(f"{path.name}: git blob SHA-1", digest, source["git_blob_sha1"]))
    return checks


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return str(digest.hexdigest())


def _columns(series: Series, sensors: Sequence[str]) -> list[int] | None:
    index = {sensor: i for i, sensor in enumerate(series.sensors)}
    columns = [index[sensor] for sensor in sensors if sensor in index]
    return columns if len(columns) == len(sensors) else None


def _compare(label: str, found: object, expected: object) -> Check:
    ok = found == expected
    return Check(label, ok, str(found) if ok else f"found {found}, expected {expected}")
