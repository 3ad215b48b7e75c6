"""Kalman smoothing of a level around a seasonal profile, sensor by sensor.

James Durbin, Siem Jan Koopman. "Time Series Analysis by State Space Methods", second edition.
Oxford University Press, 2012. DOI 10.1093/acprof:oso/9780199641178.001.0001
Andrew C. Harvey. "Forecasting, Structural Time Series Models and the Kalman Filter". 1989.

A reading is a seasonal profile, plus a level, plus noise; the level decays by the factor `damping`
per step and is shaken at random. With damping 1 it is the local level model. Choices that the
books leave open, or make differently:

* The profile is no component of the state, which would need one dimension per step of the day. It
  is a mean over the visible readings of the same time of day and the same part of the week
  (Monday to Friday, or weekend), with weights that fall linearly to nothing beyond
  `half_width` steps. The readings within `half_width` steps of an entry have no share in its own
  profile, so a reading cannot explain itself; without another day, only the mean is left.
* Damping, the noise's share of the variance, and the half-width are chosen for each sensor from
  grids, where the likelihood of what is left without the profile is highest; the common variance
  is concentrated out. The first visible reading does not count, so that dampings are comparable.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.ndimage import convolve1d

from baselines.gaps import network_mean, visible_mean

NOISE_SHARES = 1 / (1 + np.exp(-np.linspace(-8, 8, 22)))
"""Share of the noise in the sum of both variances; from 0 (interpolate) to 1 (profile only)."""

STRIDE = 3
"""Between the grids' values with which the profiles are compared."""

DIFFUSE = 1e7
"""Variance of the first level where it has no finite one, in units of the sum of both variances."""


class Kalman:
    """Smoothed mean of a damped level plus a daily and weekly profile.

    Args:
        steps_per_day: steps in a day.
        day_steps: step of the day of each step of the series, from 0.
        weekdays: day of the week of each step, 0 is Monday.
        half_widths: of the profile's window, in steps of the series; a sensor gets the most likely
            of them, or no profile. Those that do not fit into a day are left out.
        damping: factors of the level from step to step, in (0, 1], to choose from.

    Raises:
        ValueError: a half-width below 0, or a damping outside (0, 1], or none at all.
    """

    def __init__(
        self,
        *,
        steps_per_day: int,
        day_steps: Int[np.ndarray, "t"],
        weekdays: Int[np.ndarray, "t"],
        half_widths: Sequence[int] = (1, 2, 4, 8),
        damping: Sequence[float] = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0),
    ) -> None:
        if any(width < 0 for width in half_widths):
            raise ValueError(f"half_widths={list(half_widths)} must be at least 0 steps")
        if not damping or any(not 0 < factor <= 1 for factor in damping):
            raise ValueError(f"damping={list(damping)} must hold factors above 0 and up to 1")
        self.steps_per_day = steps_per_day
        self.day_steps = day_steps
        self.weekend = (weekdays >= 5).astype(np.int64)
        self.half_widths = [width for width in half_widths if 2 * width < steps_per_day]
        self.damping = np.array(sorted(damping), dtype=np.float64)

    def impute(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Fill a series.

        A sensor with nothing visible gets, at each step, the mean of the sensors visible then.

        Args:
            values: readings in their own unit; anything where not visible.
            visible: True where `values` may be read.

        Raises:
            ValueError: if nothing at all is visible, or the series has another length than the
                calendar.
        """
        if len(values) != len(self.day_steps):
            raise ValueError(f"{len(values)} steps, but {len(self.day_steps)} in the calendar")
        filled = np.repeat(network_mean(values, visible)[:, None], values.shape[1], axis=1)
        known = visible.any(axis=0)
        seen = visible[:, known]
        readings = np.where(seen, values[:, known], 0.0).astype(np.float64)
        profile, share, factor = self._likeliest(readings, seen)
        residual = np.where(seen, readings - profile, 0.0)
        filled[:, known] = profile + smooth(residual, seen, share, factor)
        return np.where(visible, values, filled.astype(values.dtype))

    def _likeliest(
        self, readings: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> tuple[Float[np.ndarray, "t n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Profile, noise shares and dampings: from a coarse grid, then from all near its best."""
        shares, factors = len(NOISE_SHARES), len(self.damping)
        share, factor = (
            grid.ravel()[:, None]
            for grid in np.meshgrid(range(0, shares, STRIDE), range(factors - 1, -1, -STRIDE))
        )
        best = np.full(readings.shape[1], -np.inf)
        chosen, at = np.empty_like(readings), np.zeros((2, len(best)), dtype=np.int64)
        for profile in self._profiles(readings, visible):
            residual = np.where(visible, readings - profile, 0.0)
            found = log_likelihood(residual, visible, NOISE_SHARES[share], self.damping[factor])
            first, found = found.argmax(axis=0), found.max(axis=0)
            better = found > best
            chosen[:, better] = profile[:, better]
            at[:, better] = np.stack([share[first, 0], factor[first, 0]])[:, better]
            best = np.maximum(best, found)

        near = range(1 - STRIDE, STRIDE)
        share, factor = (grid.ravel()[:, None] for grid in np.meshgrid(near, near))
        noise = NOISE_SHARES[np.clip(share + at[0], 0, shares - 1)]
        damping = self.damping[np.clip(factor + at[1], 0, factors - 1)]
        residual = np.where(visible, readings - chosen, 0.0)
        first = log_likelihood(residual, visible, noise, damping).argmax(axis=0)
        sensor = np.arange(len(first))
        return chosen, noise[first, sensor], damping[first, sensor]

    def _profiles(
        self, readings: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Iterator[Float[np.ndarray, "t n"]]:
        mean = np.broadcast_to(visible_mean(readings, visible, axis=0), readings.shape)
        yield mean
        slots, every_day = self.day_steps, np.zeros_like(self.weekend)
        for width in self.half_widths:
            shape = (self.steps_per_day, width)
            daily = profile_of_others(readings, visible, slots, every_day, mean, *shape)
            yield profile_of_others(readings, visible, slots, self.weekend, daily, *shape)


def profile_of_others(
    readings: Float[np.ndarray, "t n"],
    visible: Bool[np.ndarray, "t n"],
    day_steps: Int[np.ndarray, "t"],
    kinds: Int[np.ndarray, "t"],
    prior: Float[np.ndarray, "t n"],
    steps_per_day: int,
    half_width: int,
) -> Float[np.ndarray, "t n"]:
    """Weighted mean of the readings at the same time of the days of the same kind.

    The weight is 1 at the same step of the day and falls linearly to 0 at `half_width` + 1 steps
    from it. Readings up to `half_width` steps away in the series itself are left out, and `prior`
    counts as one reading more.

    Args:
        readings: 0 where not visible.
        visible: True where `readings` may be read.
        day_steps: step of the day of each step.
        kinds: kind of the day of each step.
        prior: mean to shrink to.
        steps_per_day: steps in a day; more than 2 `half_width`.
        half_width: of the window, in steps.
    """
    weights = 1 - np.abs(np.arange(-half_width, half_width + 1)) / (half_width + 1)
    profile = np.empty_like(readings)
    for kind in np.unique(kinds):
        of_kind = kinds == kind
        steps, slots = np.flatnonzero(of_kind), day_steps[of_kind]
        shape = (steps_per_day, len(readings))
        collect = sparse.csr_array((np.ones(len(steps)), (slots, steps)), shape=shape)

        def others(
            x: Float[np.ndarray, "t n"],
            collect: sparse.csr_array = collect,
            of_kind: Bool[np.ndarray, "t"] = of_kind,
            slots: Int[np.ndarray, "s"] = slots,
        ) -> Float[np.ndarray, "s n"]:
            near = np.where(of_kind[:, None], x, 0.0)
            near = convolve1d(near, weights, axis=0, mode="constant")[of_kind]
            return convolve1d(collect @ x, weights, axis=0, mode="wrap")[slots] - near

        count = np.maximum(others(visible.astype(np.float64)), 0.0)
        profile[of_kind] = (others(readings) + prior[of_kind]) / (count + 1)
    return profile


def _first_variance(noise: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """Stationary variance of the level; `DIFFUSE` without damping."""
    undamped = damping == 1
    return np.where(undamped, DIFFUSE, (1 - noise) / np.where(undamped, 1, 1 - damping**2))


def log_likelihood(
    residual: Float[np.ndarray, "t n"],
    visible: Bool[np.ndarray, "t n"],
    noise: Float[np.ndarray, "g #n"],
    damping: Float[np.ndarray, "g #n"],
) -> Float[np.ndarray, "g n"]:
    """Concentrated log-likelihood, up to a constant of the sensor, from its second reading on.

    Args:
        residual: readings without their profile; 0 where not visible.
        visible: True where there is a reading.
        noise: shares of the noise in the sum of both variances, for all or for each sensor.
        damping: of the level.
    """
    n_sensors = visible.shape[1]
    level = np.zeros((len(noise), n_sensors))
    variance = level + _first_variance(noise, damping)
    squares, logs = np.zeros_like(level), np.zeros_like(level)
    before = np.zeros(n_sensors, dtype=bool)
    for reading, seen in zip(residual, visible, strict=True):
        spread = variance + noise
        error = reading - level
        gain = np.where(seen, variance / spread, 0.0)
        counted = (seen & before).astype(np.float64)
        squares += counted * (error * error / spread)
        logs += counted * np.log(spread)
        level = damping * (level + gain * error)
        variance = damping**2 * (variance - gain * variance) + (1 - noise)
        before |= seen
    count = np.maximum(visible.sum(axis=0) - 1, 0)
    scale = np.maximum(squares / np.maximum(count, 1), np.finfo(np.float64).tiny)
    return -0.5 * (count * np.log(scale) + logs)


def smooth(
    residual: Float[np.ndarray, "t n"],
    visible: Bool[np.ndarray, "t n"],
    noise: Float[np.ndarray, "n"],
    damping: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "t n"]:
    """Mean of the level at each step given all readings (Rauch, Tung, Striebel).

    Args: as of `log_likelihood`, but one pair of parameters for each sensor.
    """
    level, variance = np.zeros(len(noise)), _first_variance(noise, damping)
    filtered, back = np.empty_like(residual), np.empty_like(residual)
    for t, (reading, seen) in enumerate(zip(residual, visible, strict=True)):
        gain = np.where(seen, variance / (variance + noise), 0.0)
        filtered[t] = level + gain * (reading - level)
        left = variance - gain * variance
        variance = damping**2 * left + (1 - noise)
        back[t] = damping * left / variance
        level = damping * filtered[t]
    for t in range(len(filtered) - 2, -1, -1):
        filtered[t] += back[t] * (filtered[t + 1] - damping * filtered[t])
    return filtered
