"""Errors on held-out entries, as sums that do not depend on how entries are batched.

Two conventions: "window" counts an entry once per test window that contains it (what the papers
report), "step" averages the predictions of those windows and counts each entry once.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class ErrorSums:
    """Sums over scored entries; add two to join two batches."""

    count: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0
    truth: float = 0.0
    relative: float = 0.0
    relative_count: float = 0.0

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return ErrorSums(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    def scores(self) -> dict[str, float]:
        """MAE, RMSE, MSE in original units; MRE and MAPE as ratios; NaN where nothing counts.

        `mape_left_out` is the share of entries whose truth is 0, on which MAPE is not defined.
        """
        nan = float("nan")
        mse = self.squared / self.count if self.count else nan
        return {
            "mae": self.absolute / self.count if self.count else nan,
            "rmse": mse**0.5,
            "mse": mse,
            "mre": self.absolute / self.truth if self.truth else nan,
            "mape": self.relative / self.relative_count if self.relative_count else nan,
            "mape_left_out": 1 - self.relative_count / self.count if self.count else nan,
        }


def error_sums(
    prediction: Float[np.ndarray, "*shape"],
    truth: Float[np.ndarray, "*shape"],
    scored: Bool[np.ndarray, "*shape"],
    weight: Int[np.ndarray, "*shape"] | None = None,
) -> ErrorSums:
    """Sums of errors over the entries where `scored` is True.

    Args:
        prediction: estimates in original units.
        truth: readings in original units; anything where not scored.
        scored: True where an entry counts.
        weight: how often each entry counts; once where not given.
    """
    y = truth[scored].astype(np.float64)
    error = np.abs(prediction[scored].astype(np.float64) - y)
    w = np.ones_like(y) if weight is None else weight[scored].astype(np.float64)
    size = np.abs(y)
    nonzero = size > 0
    return ErrorSums(
        count=float(w.sum()),
        absolute=float(w @ error),
        squared=float(w @ error**2),
        truth=float(w @ size),
        relative=float(w[nonzero] @ (error[nonzero] / size[nonzero])),
        relative_count=float(w[nonzero].sum()),
    )


class WindowScorer:
    """Scores windows one batch at a time, without keeping their predictions.

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
        self.by_window = ErrorSums()
        self._sum = np.zeros(truth.shape, dtype=np.float64)
        self._covered = np.zeros(len(truth), dtype=np.int64)

    def update(self, starts: Int[np.ndarray, "b"], prediction: Float[np.ndarray, "b w n"]) -> None:
        """Takes the predictions, in original units, of the windows that start at `starts`."""
        steps = starts[:, None] + self.offsets
        self.by_window += error_sums(prediction, self.truth[steps], self.held_out[steps])
        np.add.at(self._sum, steps, prediction)
        np.add.at(self._covered, steps, 1)

    @property
    def covered(self) -> Bool[np.ndarray, "t"]:
        """True for steps that some window contained."""
        return self._covered > 0

    def filled(self) -> Float[np.ndarray, "t n"]:
        """Mean prediction of all windows over each entry; NaN where no window came."""
        count = np.where(self.covered, self._covered, 1)[:, None]
        return np.where(self.covered[:, None], self._sum / count, np.nan).astype(np.float32)

    def by_step(self) -> ErrorSums:
        """Sums of the averaged predictions, each entry once."""
        return error_sums(self.filled(), self.truth, self.held_out & self.covered[:, None])
