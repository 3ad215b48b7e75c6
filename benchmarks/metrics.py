"""Errors on held-out entries, as sums that do not depend on how entries are batched.

Two conventions: "window" counts an entry once per test window that contains it (what the papers
report), "step" averages the predictions of those windows and counts each entry once.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class ErrorSums:
    """Sums over scored entries, scalars or one element per group; add two to join two batches."""

    count: float | np.ndarray = 0.0
    absolute: float | np.ndarray = 0.0
    squared: float | np.ndarray = 0.0
    truth: float | np.ndarray = 0.0
    relative: float | np.ndarray = 0.0
    relative_count: float | np.ndarray = 0.0

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return ErrorSums(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    def scores(self) -> dict[str, Any]:
        """MAE, RMSE, MSE in original units; MRE and MAPE as ratios; NaN where nothing counts.

        `mape_left_out` is the share of entries whose truth is 0, on which MAPE is not defined.
        Each is a number, or an array if the sums are.
        """
        mse = _ratio(self.squared, self.count)
        return {
            "mae": _ratio(self.absolute, self.count),
            "rmse": np.sqrt(mse),
            "mse": mse,
            "mre": _ratio(self.absolute, self.truth),
            "mape": _ratio(self.relative, self.relative_count),
            "mape_left_out": 1 - _ratio(self.relative_count, self.count),
        }


def _ratio(numerator: float | np.ndarray, denominator: float | np.ndarray) -> Any:
    over = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, over, out=np.full(over.shape, np.nan), where=over > 0)[()]


@dataclass(frozen=True)
class EntryErrors:
    """Errors of the scored entries, one element for each, in C order of the series.

    Attributes:
        truth: readings in original units.
        count: how many predictions of the entry count.
        absolute: their absolute errors, summed.
        squared: their squared errors, summed.
    """

    truth: Float[np.ndarray, "m"]
    count: Float[np.ndarray, "m"]
    absolute: Float[np.ndarray, "m"]
    squared: Float[np.ndarray, "m"]

    def total(self) -> ErrorSums:
        """Sums over all entries."""
        sums = self.by_group(np.zeros(len(self.truth), dtype=np.int64), 1)
        return ErrorSums(*(float(getattr(sums, f)[0]) for f in sums.__dataclass_fields__))

    def by_group(self, group: Int[np.ndarray, "m"], n_groups: int) -> ErrorSums:
        """Sums over the entries of each group, `[n_groups]`; a negative group counts nowhere."""
        size = np.abs(self.truth)
        nonzero = size > 0
        relative = np.divide(self.absolute, size, out=np.zeros_like(size), where=nonzero)
        parts = (
            self.count, self.absolute, self.squared, self.count * size,
            relative, self.count * nonzero,
        )  # fmt: skip
        counted = group >= 0
        return ErrorSums(
            *(np.bincount(group[counted], part[counted], minlength=n_groups) for part in parts)
        )


def entry_errors(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    scored: Bool[np.ndarray, "*shape"],
    count: Int[np.ndarray, "*shape"] | None = None,
) -> EntryErrors:
    """Errors of one prediction for each entry where `scored` is True.

    Args:
        prediction: estimates in original units.
        truth: readings in original units; anything where not scored.
        scored: True where an entry counts.
        count: how often each entry counts; once where not given.
    """
    y = truth[scored].astype(np.float64)
    error = np.abs(prediction[scored].astype(np.float64) - y)
    times = np.ones_like(y) if count is None else count[scored].astype(np.float64)
    return EntryErrors(y, times, times * error, times * error**2)


@dataclass(frozen=True)
class Scores:
    """Errors under both conventions, on the entries where `scored` is True."""

    scored: Bool[np.ndarray, "t n"]
    window: EntryErrors
    step: EntryErrors


class WindowScorer:
    """Scores windows one batch at a time, without keeping their predictions.

    However the windows are batched, each entry's errors are added in the order of the windows: the
    scores are the same to the last bit.

    Args:
        truth: readings of the whole series `[t n]`, original units.
        held_out: True where an entry is scored.
        window: steps in a window.
    """

    def __init__(
        self,
        truth: Float[np.ndarray, "t n"],
        held_out: Bool[np.ndarray, "t n"],
        window: int,
    ):
        self.truth, self.held_out = truth, held_out
        self.offsets = np.arange(window)
        self._first = np.concatenate([[0], held_out.sum(axis=1).cumsum()])  # entry of each step
        self._absolute = np.zeros(self._first[-1])
        self._squared = np.zeros(self._first[-1])
        self._sum = np.zeros(truth.shape, dtype=np.float64)
        self._covered = np.zeros(len(truth), dtype=np.int64)

    def update(self, starts: Int[np.ndarray, "b"], prediction: Float[np.ndarray, "b w n"]) -> None:
        """Takes the predictions, in original units, of the windows that start at `starts`."""
        for start, values in zip(starts, prediction, strict=True):
            end = start + len(self.offsets)
            entries = slice(self._first[start], self._first[end])
            held_out = self.held_out[start:end]
            errors = entry_errors(values, self.truth[start:end], held_out)
            self._absolute[entries] += errors.absolute
            self._squared[entries] += errors.squared
            self._sum[start:end] += values
            self._covered[start:end] += 1

    @property
    def covered(self) -> Bool[np.ndarray, "t"]:
        """True for steps that some window contained."""
        return self._covered > 0

    def filled(self) -> Float[np.ndarray, "t n"]:
        """Mean prediction of all windows over each entry; NaN where no window came."""
        count = np.where(self.covered, self._covered, 1)[:, None]
        return np.where(self.covered[:, None], self._sum / count, np.nan).astype(np.float32)

    def scores(self) -> Scores:
        """Errors of what came so far, under both conventions."""
        scored = self.held_out & self.covered[:, None]
        step = entry_errors(self.filled(), self.truth, scored)
        kept = scored[self.held_out]
        count = np.broadcast_to(self._covered[:, None], scored.shape)[scored].astype(np.float64)
        window = EntryErrors(step.truth, count, self._absolute[kept], self._squared[kept])
        return Scores(scored, window, step)
