"""Scores by the circumstances of an entry: its gap, its hour, its sensor, congestion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from benchmarks.data.series import Series
from benchmarks.masks import MaskedSeries
from benchmarks.metrics import Scores

METRICS = ("mae", "rmse", "mre", "mape")
"""Scores of a group; MSE is the square of RMSE."""

STEP_BINS = (1, 2, 3, 6, 12, 24, 48, 288)
"""Lower ends, in steps, of the groups of gap lengths and distances."""

CONGESTED = 0.5
"""Share of a sensor's free-flow speed below which it is congested."""

FREE_FLOW = 85
"""Percentile of a sensor's readings that stands for its free-flow speed, as in the Urban
Congestion Reports of the US Federal Highway Administration (there of off-peak hours)."""


@dataclass(frozen=True)
class Groups:
    """A grouping of entries: a name for each group, and each entry's group, -1 for none."""

    names: tuple[str, ...]
    of_entry: Int[np.ndarray, "t n"]


@dataclass(frozen=True)
class Runs:
    """Maximal runs of True along time, ordered by sensor, then by step.

    Attributes:
        sensor: column of each run.
        start: its first step.
        end: the step after its last.
    """

    sensor: Int[np.ndarray, "r"]
    start: Int[np.ndarray, "r"]
    end: Int[np.ndarray, "r"]


def runs(mask: Bool[np.ndarray, "t n"]) -> Runs:
    """Finds the runs of True in each column."""
    edge = np.zeros((1, mask.shape[1]), dtype=np.int8)
    change = np.diff(mask.astype(np.int8), axis=0, prepend=edge, append=edge).T
    sensor, start = np.nonzero(change == 1)
    return Runs(sensor, start, np.nonzero(change == -1)[1])


def gap_length(masked: MaskedSeries) -> Groups:
    """By how many steps in a row the sensor shows nothing, hidden or missing natively."""
    invisible = ~masked.visible
    gaps = runs(invisible)
    length = gaps.end - gaps.start
    return _binned(_on_runs(invisible, np.repeat(length, length)), STEP_BINS)


def distance(masked: MaskedSeries) -> Groups:
    """By how many steps lie between the entry and the sensor's nearest visible reading."""
    invisible = ~masked.visible
    gaps = runs(invisible)
    length = gaps.end - gaps.start
    before = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length) + 1
    after = np.repeat(length, length) - before + 1
    far = np.iinfo(np.int64).max
    before = np.where(np.repeat(gaps.start == 0, length), far, before)
    after = np.where(np.repeat(gaps.end == len(invisible), length), far, after)
    nearest = np.minimum(before, after)
    found = _binned(_on_runs(invisible, np.where(nearest == far, 0, nearest)), STEP_BINS)
    silent = ~masked.visible.any(axis=0)
    of_entry = np.where(silent, np.int16(len(found.names)), found.of_entry)
    return Groups((*found.names, "sensor never visible"), of_entry)


def hour(masked: MaskedSeries) -> Groups:
    """By the hour of the day, local clock."""
    hours = masked.series.time.hour.to_numpy().astype(np.int16)
    of_entry = np.broadcast_to(hours[:, None], masked.visible.shape)
    return Groups(tuple(f"{h:02d}" for h in range(24)), of_entry)


def sensor(masked: MaskedSeries) -> Groups:
    """By sensor."""
    order = np.arange(masked.series.n_nodes, dtype=np.int16)
    return Groups(masked.series.sensors, np.broadcast_to(order, masked.visible.shape))


def congestion(masked: MaskedSeries) -> Groups:
    """By whether the true speed is under half of the sensor's free flow; speeds only."""
    series: Series = masked.series
    if not series.is_speed:
        return Groups((), np.full(series.values.shape, -1, dtype=np.int16))
    readings = np.where(series.observed, series.values, np.float32(np.nan))
    free_flow = np.nanpercentile(readings, FREE_FLOW, axis=0)
    congested = (readings < CONGESTED * free_flow).astype(np.int16)
    return Groups(("free", "congested"), np.where(series.observed, congested, np.int16(-1)))


BREAKDOWNS: Mapping[str, Callable[[MaskedSeries], Groups]] = {
    "gap_length": gap_length,
    "distance": distance,
    "hour": hour,
    "sensor": sensor,
    "congestion": congestion,
}
"""Every grouping of a cell's `scores.csv`, by name."""


def score_groups(scores: Scores, masked: MaskedSeries) -> pd.DataFrame:
    """A row for each group that has a scored entry.

    Returns:
        Columns `by`, `group`, `entries` and each metric under both conventions, errors in
        original units.
    """
    return pd.concat(
        [_score(name, groups, scores) for name, groups in _groups(masked).items()],
        ignore_index=True,
    )


@lru_cache(maxsize=1)
def _groups(masked: MaskedSeries) -> dict[str, Groups]:
    """Every grouping; the same for all cells that share the masked series."""
    return {name: function(masked) for name, function in BREAKDOWNS.items()}


def _score(name: str, groups: Groups, scores: Scores) -> pd.DataFrame:
    of_entry = groups.of_entry[scores.scored].astype(np.int64)
    columns: dict[str, object] = {"by": name, "group": list(groups.names)}
    columns["entries"] = np.bincount(of_entry[of_entry >= 0], minlength=len(groups.names))
    for convention in ("window", "step"):
        values = getattr(scores, convention).by_group(of_entry, len(groups.names)).scores()
        columns |= {f"{convention}_{metric}": values[metric] for metric in METRICS}
    table = pd.DataFrame(columns)
    return table[table["entries"] > 0]


def _on_runs(mask: Bool[np.ndarray, "t n"], values: Int[np.ndarray, "m"]) -> np.ndarray:
    """Puts one value on each True of `mask`, sensor by sensor; 0 elsewhere."""
    placed = np.zeros(mask.shape[::-1], dtype=np.int32)
    placed[mask.T] = values
    return placed.T


def _binned(steps: Int[np.ndarray, "t n"], lower: tuple[int, ...]) -> Groups:
    names = [str(low) if high == low + 1 else f"{low}-{high - 1}" for low, high in pairwise(lower)]
    of_entry = np.searchsorted(lower, steps, side="right").astype(np.int16) - np.int16(1)
    return Groups((*names, f"{lower[-1]}+"), of_entry)
