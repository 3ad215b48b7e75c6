"""Where the gaps of a series begin and end; shared by the closed-form methods."""

import numpy as np
from jaxtyping import Bool, Float, Int


def previous_visible(visible: Bool[np.ndarray, "t n"]) -> Int[np.ndarray, "t n"]:
    """Last step at or before each step where the sensor is visible; -1 where there is none."""
    steps = np.arange(len(visible), dtype=np.int32)[:, None]
    return np.maximum.accumulate(np.where(visible, steps, np.int32(-1)), axis=0)


def next_visible(visible: Bool[np.ndarray, "t n"]) -> Int[np.ndarray, "t n"]:
    """First step at or after each step where the sensor is visible; the length where none is."""
    steps = np.arange(len(visible), dtype=np.int32)[:, None]
    found = np.where(visible, steps, np.int32(len(visible)))
    return np.minimum.accumulate(found[::-1], axis=0)[::-1]


def visible_mean(
    values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"], axis: int | None = None
) -> Float[np.ndarray, "..."]:
    """Mean over the visible entries along `axis` (None: over all); NaN where there are none."""
    total = np.where(visible, values, 0.0).sum(axis=axis, dtype=np.float64)
    count = visible.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def visible_moments(
    values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Mean and standard deviation of each sensor's visible readings.

    The mean is NaN where there are none; the deviation is 1 where it would be 0 or NaN.
    """
    mean = visible_mean(values, visible, axis=0)
    variance = visible_mean(np.square(values - mean), visible, axis=0)
    return mean, np.sqrt(np.where(variance > 0, variance, 1.0))


def network_mean(
    values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
) -> Float[np.ndarray, "t"]:
    """Mean over the sensors visible at each step, and over the whole series where none is.

    Raises:
        ValueError: if nothing at all is visible.
    """
    if not visible.any():
        raise ValueError(f"none of the {visible.size} entries is visible: nothing to impute from")
    by_step = visible_mean(values, visible, axis=1)
    return np.where(np.isnan(by_step), visible_mean(values, visible), by_step)
