"""One traffic series: readings on a complete time index, and the roads between the sensors."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from benchmarks.errors import InputError

DAY = pd.Timedelta(days=1)

SPEED_UNITS = ("mph", "mi/h", "km/h", "kmh", "kph", "m/s")
"""Units of values that are speeds, in small letters: low ones mean congestion."""


@dataclass(frozen=True, eq=False)
class Series:
    """Readings of `n` sensors over `t` steps; validates itself.

    Attributes:
        name: name of the dataset; a slice has its own.
        values: float32 `[t n]`, original units, NaN exactly where nothing was observed.
        observed: bool `[t n]`, True = a real reading.
        time: `[t]`, local clock, complete and regular, a whole number of steps a day.
        sensors: `[n]` ids, unique.
        unit: unit of the values, for tables and figures.
        distances: float32 `[n n]`, metres along the road from i to j, inf = no known link, 0 on
            the diagonal; None if the dataset has no road network.
        coordinates: float64 `[n 2]`, latitude and longitude in degrees, or None.
        simulated: True if no sensor ever measured these values.

    Raises:
        InputError: if any of this does not hold.
    """

    name: str
    values: np.ndarray
    observed: np.ndarray
    time: pd.DatetimeIndex
    sensors: tuple[str, ...]
    unit: str
    distances: np.ndarray | None = None
    coordinates: np.ndarray | None = None
    simulated: bool = False

    def __post_init__(self) -> None:
        _check_arrays(self)
        _check_sensors(self)
        _check_time(self)
        if self.distances is not None:
            _check_distances(self, self.distances)
        if self.coordinates is not None:
            _check_coordinates(self, self.coordinates)

    @property
    def n_steps(self) -> int:
        """Number of time steps."""
        return int(self.values.shape[0])

    @property
    def n_nodes(self) -> int:
        """Number of sensors."""
        return int(self.values.shape[1])

    @property
    def step(self) -> pd.Timedelta:
        """Time between two steps."""
        return self.time[1] - self.time[0]

    @property
    def steps_per_day(self) -> int:
        """Number of steps in a day: 288 for 5 minutes."""
        return int(DAY / self.step)

    @property
    def is_speed(self) -> bool:
        """Whether the values are speeds, by their unit."""
        return self.unit.lower() in SPEED_UNITS

    @property
    def missing_rate(self) -> float:
        """Share of entries that were never observed."""
        return float(1.0 - self.observed.mean())

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the values, the mask, the time, the sensors or the roads.

        The name, the unit, the coordinates and the file format play no part.
        """
        digest = hashlib.sha256()
        header = f"{self.time[0].isoformat()} {self.step} {self.values.shape}\n"
        digest.update((header + "\n".join(self.sensors)).encode())
        digest.update(np.where(self.observed, self.values, 0).astype("<f4").tobytes())
        digest.update(np.packbits(self.observed).tobytes())
        if self.distances is not None:
            digest.update(self.distances.astype("<f4").tobytes())
        return digest.hexdigest()[:16]


def _check_arrays(series: Series) -> None:
    values, observed = series.values, series.observed
    if values.ndim != 2 or values.dtype != np.float32:
        raise _error(series, f"values must be float32 [t n], not {values.dtype} {values.shape}")
    if observed.dtype != np.bool_ or observed.shape != values.shape:
        raise _error(
            series,
            f"observed must be bool {values.shape}, not {observed.dtype} {observed.shape}",
        )
    if min(values.shape) < 1 or values.shape[0] < 2:
        raise _error(series, f"needs at least 2 steps and 1 sensor, not {values.shape}")
    wrong = np.argwhere(np.where(observed, ~np.isfinite(values), ~np.isnan(values)))
    if len(wrong):
        step, node = (int(i) for i in wrong[0])
        state = "observed" if observed[step, node] else "not observed"
        raise _error(
            series,
            f"step {step} of sensor {node} is {state} but its value is {values[step, node]}: "
            "values must be finite where observed and NaN elsewhere",
        )


def _check_sensors(series: Series) -> None:
    if len(series.sensors) != series.n_nodes:
        raise _error(series, f"{len(series.sensors)} sensor ids for {series.n_nodes} columns")
    repeated = [sensor for sensor, count in Counter(series.sensors).items() if count > 1]
    if repeated:
        raise _error(series, f"sensor ids appear more than once: {shorten(repeated)}")
    silent = [series.sensors[i] for i in np.flatnonzero(~series.observed.any(axis=0))]
    if silent:
        raise _error(
            series, f"no reading at all from sensor {shorten(silent)}: leave such sensors out"
        )


def _check_time(series: Series) -> None:
    time = series.time
    if len(time) != series.n_steps:
        raise _error(series, f"{len(time)} timestamps for {series.n_steps} steps")
    if time.tz is not None:
        raise _error(series, f"time must be a local clock without time zone, not {time.tz}")
    if time.hasnans:
        raise _error(series, "time has an empty timestamp")
    gaps = np.diff(time.as_unit("ns").asi8)
    if gaps[0] <= 0 or DAY.value % gaps[0]:
        raise _error(series, f"a step of {series.step} does not divide a day")
    if (gaps != gaps[0]).any():
        where = int(np.argmax(gaps != gaps[0]))
        raise _error(series, f"time is not regular: {time[where]} is followed by {time[where + 1]}")


def _check_distances(series: Series, distances: np.ndarray) -> None:
    shape = (series.n_nodes, series.n_nodes)
    if distances.shape != shape or distances.dtype != np.float32:
        raise _error(
            series,
            f"distances must be float32 {shape}, not {distances.dtype} {distances.shape}",
        )
    if np.isnan(distances).any() or (distances < 0).any() or np.diag(distances).any():
        raise _error(series, "distances must be >= 0 or inf, and 0 on the diagonal")


def _check_coordinates(series: Series, coordinates: np.ndarray) -> None:
    shape = (series.n_nodes, 2)
    if coordinates.shape != shape or coordinates.dtype != np.float64:
        raise _error(
            series,
            f"coordinates must be float64 {shape}, not {coordinates.dtype} {coordinates.shape}",
        )
    outside = ~(np.abs(coordinates) <= np.array([90.0, 180.0])).all(axis=1)
    if outside.any():
        node = int(np.argmax(outside))
        raise _error(
            series,
            f"coordinates of sensor {series.sensors[node]} are {coordinates[node].tolist()}, "
            "not latitude and longitude in degrees",
        )


def shorten(names: list[str], limit: int = 5) -> str:
    """Join the first few names; say how many were left out."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _error(series: Series, message: str) -> InputError:
    return InputError(f"series {series.name}: {message}")
