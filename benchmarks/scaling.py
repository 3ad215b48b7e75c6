"""Standardisation with the statistics of what is visible in the training part."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from benchmarks.errors import InputError

SCALINGS = ("global", "per_sensor")


@dataclass(frozen=True)
class Scaler:
    """`(value - mean) / std` with one mean and deviation for all sensors or one for each."""

    mean: Float[np.ndarray, "n"]
    std: Float[np.ndarray, "n"]

    def scale(self, values: Float[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
        """Original units to standard deviations from the mean."""
        return ((values - self.mean) / self.std).astype(np.float32)


def fit_scaler(
    values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"], scaling: str = "global"
) -> Scaler:
    """Mean and standard deviation of the visible entries of the training steps.

    A sensor without a visible entry, or with constant ones, takes the network's figure.

    Args:
        values: readings of the training steps, original units; anything where not visible.
        visible: True where a reading may be used.
        scaling: "global" (one figure for all sensors) or "per_sensor".

    Raises:
        InputError: an unknown scaling, or no visible reading at all.
    """
    if scaling not in SCALINGS:
        raise InputError(f"scaling={scaling!r} is unknown; choose from {', '.join(SCALINGS)}")
    if not visible.any():
        raise InputError("no reading is visible in the training steps: nothing to scale with")
    n = values.shape[1]
    known = np.where(visible, values, np.nan).astype(np.float64)
    mean, std = float(np.nanmean(known)), float(np.nanstd(known)) or 1.0
    if scaling == "global":
        return Scaler(np.full(n, mean), np.full(n, std))
    count = visible.sum(axis=0)
    divisor = np.maximum(count, 1)
    means = np.where(count > 0, np.nansum(known, axis=0) / divisor, mean)
    stds = np.sqrt(np.nansum((known - means) ** 2, axis=0) / divisor)
    return Scaler(means, np.where(stds > 0, stds, std))
