"""LATC, low-rank autoregressive tensor completion.

Xinyu Chen, Mengying Lei, Nicolas Saunier, Lijun Sun. "Low-Rank Autoregressive Tensor Completion for
Spatiotemporal Traffic Data Imputation". IEEE Transactions on Intelligent Transportation Systems,
2022. arXiv:2104.14936

The series is a tensor of days, steps of the day and sensors. Each of its three unfoldings is to
have a small truncated nuclear norm, and each sensor is to follow its own autoregression.

Deliberate deviations from the published code (imputer/LATC.ipynb of xinychen/transdim):

* Gaps start as linear interpolation instead of 0, and the autoregressions as their fit to it
  instead of random numbers.
* The readings are brought to a root mean square of `SCALE` first: the thresholds are in the unit of
  the readings, and the published ones are for speeds in mph.
* The `theta` largest singular values are always kept, as in the paper; the code drops those of
  them that are below the threshold.
* Hours that are missing from the first and the last day are gaps.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_solve_banded, cholesky_banded

from baselines.gaps import visible_mean
from baselines.linear import Linear

SCALE = 60.0
"""Root mean square that the readings are brought to."""

GROWTH = 1.05
"""Of `rho` with every inner iteration."""

SHORT = 512
"""Steps of a series whose equations are factorised as they are; even."""

RIDGE = 1e-6
"""Of the autoregressions, in units of the mean square: a constant sensor has no unique one."""


class Latc:
    """Tensor completion by ADMM.

    Args:
        steps_per_day: steps in a day.
        day_steps: step of the day of each step of the series, from 0.
        theta: singular values of each unfolding that are not shrunk.
        rho: first penalty of the ADMM; the threshold of the singular values is 1 / (3 rho).
        balance: weight of the autoregressions, in units of `rho`.
        lags: of the autoregressions, in steps.
        tolerance: relative change between iterations at which it ends.
        max_iterations: at which it ends in any case.
        inner_iterations: of the ADMM, between two fits of the autoregressions.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(
        self,
        *,
        steps_per_day: int,
        day_steps: Int[np.ndarray, "t"],
        theta: int = 20,
        rho: float = 1e-4,
        balance: float = 10.0,
        lags: Sequence[int] = (1, 2, 3, 4, 5, 6),
        tolerance: float = 1e-4,
        max_iterations: int = 100,
        inner_iterations: int = 3,
    ) -> None:
        if not lags or min(lags) < 1 or len(set(lags)) < len(lags):
            raise ValueError(f"lags={list(lags)} must be different numbers of steps, at least 1")
        for name, value in (("rho", rho), ("balance", balance), ("tolerance", tolerance)):
            if value <= 0:
                raise ValueError(f"{name}={value} must be above 0")
        for name, value in (("max", max_iterations), ("inner", inner_iterations)):
            if value < 1:
                raise ValueError(f"{name}_iterations={value} must be at least 1")
        if theta < 0:
            raise ValueError(f"theta={theta} must be at least 0")
        self.steps_per_day, self.day_steps = steps_per_day, day_steps
        self.theta, self.rho, self.weight = theta, rho, balance * rho
        self.lags = sorted(lags)
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.inner_iterations = inner_iterations

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
        filled = Linear().impute(values, visible)
        known = visible.any(axis=0)
        seen = visible[:, known]
        before = int(self.day_steps[0])
        margin = (before, -(before + len(values)) % self.steps_per_day)
        series = np.pad(filled[:, known], (margin, (0, 0)), mode="edge").astype(np.float32)
        square = float(visible_mean(values.astype(np.float64) ** 2, visible))
        scale = np.float32(SCALE / np.sqrt(square) if square > 0 else 1.0)
        completed = self._complete(series * scale, np.pad(seen, (margin, (0, 0)))) / scale
        estimate = completed[before : before + len(values)]
        filled[:, known] = np.where(seen, filled[:, known], estimate)
        return filled

    def _complete(
        self, z: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """The published algorithm on whole days; `z` has a first estimate in its gaps."""
        shape = (-1, self.steps_per_day, z.shape[1])
        rho, dual, before = self.rho, np.zeros_like(z), z
        norm = np.linalg.norm(z[visible])
        low_rank = z
        for _ in range(self.max_iterations):
            weights = autoregressions(z, self.lags)
            for _ in range(self.inner_iterations):
                rho = min(rho * GROWTH, 1e5)
                tensor = (z - dual / rho).reshape(shape)
                low_rank = shrink(tensor, 1 / (3 * rho), self.theta).reshape(z.shape)
                target = low_rank + dual / rho
                smooth = smoothed(target, weights, self.lags, self.weight / rho)
                z = np.where(visible, z, smooth)
                dual += rho * (low_rank - z)
            change = np.linalg.norm(low_rank - before)
            before = low_rank
            if change <= self.tolerance * norm:
                break
        return low_rank


def shrink(
    tensor: Float[np.ndarray, "a b c"], threshold: float, theta: int
) -> Float[np.ndarray, "a b c"]:
    """Mean over the three unfoldings, each with its singular values thresholded.

    The `theta` largest stay; from the others `threshold` is taken, down to 0. That is a product
    with a small matrix, which the eigenvectors of the unfolding's Gram matrix give.
    """
    days, _, sensors = tensor.shape
    by_day, by_sensor = tensor.reshape(days, -1), tensor.reshape(-1, sensors)
    of_step = keep(np.matmul(tensor, tensor.transpose(0, 2, 1)).sum(axis=0), threshold, theta)
    total = np.matmul(of_step, tensor)
    total += (keep(by_day @ by_day.T, threshold, theta) @ by_day).reshape(tensor.shape)
    total += (by_sensor @ keep(by_sensor.T @ by_sensor, threshold, theta)).reshape(tensor.shape)
    total /= 3
    return total


def keep(gram: Float[np.ndarray, "k k"], threshold: float, theta: int) -> Float[np.ndarray, "k k"]:
    """Matrix that thresholds the singular values of a matrix with this Gram matrix."""
    eigenvalues, vectors = np.linalg.eigh(gram.astype(np.float64))
    singular = np.sqrt(np.maximum(eigenvalues, 0))  # ascending
    factor = np.maximum(1 - threshold / np.maximum(singular, threshold), 0)
    factor[max(len(factor) - theta, 0) :] = 1
    return ((vectors * factor) @ vectors.T).astype(gram.dtype)


def autoregressions(z: Float[np.ndarray, "t n"], lags: Sequence[int]) -> Float[np.ndarray, "n d"]:
    """Least-squares weights of each sensor's own `lags`, without a constant."""
    start, n = max(lags), z.shape[1]
    if len(z) <= start:
        return np.zeros((n, len(lags)))
    delayed = [z[start - lag : len(z) - lag] for lag in (0, *lags)]
    products = np.empty((n, len(delayed), len(delayed)))
    for i, first in enumerate(delayed):
        for j, second in enumerate(delayed[: i + 1]):
            product = np.einsum("tn,tn->n", first, second, dtype=np.float64)
            products[:, i, j] = products[:, j, i] = product
    size = np.maximum(products[:, 0, 0], np.finfo(np.float32).tiny)[:, None, None]
    gram = products[:, 1:, 1:] + RIDGE * size * np.eye(len(lags))
    return np.linalg.solve(gram, products[:, 1:, :1])[..., 0]


def smoothed(
    target: Float[np.ndarray, "t n"],
    weights: Float[np.ndarray, "n d"],
    lags: Sequence[int],
    strength: float,
) -> Float[np.ndarray, "t n"]:
    """Minimises the squared distance to `target` plus `strength` times that to the autoregression.

    Sensor by sensor a system of equations with as many diagonals as the largest lag.
    """
    steps, start = len(target), max(lags)
    if steps <= start:
        return target
    out = np.empty_like(target)
    for n, own in enumerate(weights):
        taps = np.zeros(start + 1)  # the residual at step t is the sum of taps[k] z[t - k]
        taps[0] = 1
        taps[list(lags)] = -own
        factor = banded_factor(taps, strength, steps).astype(target.dtype)
        out[:, n] = cho_solve_banded((factor, True), target[:, n], check_finite=False)
    return out


def banded_factor(
    taps: Float[np.ndarray, "k"], strength: float, steps: int
) -> Float[np.ndarray, "k t"]:
    """Lower Cholesky factor of the identity plus `strength` times the residuals' Gram matrix.

    All rows of that matrix are the same but for the first and the last few, and soon those of the
    factor are too. A long one is a short one with its middle column repeated.
    """
    if steps > SHORT:
        short = banded_factor(taps, strength, SHORT)
        half = SHORT // 2
        middle = short[:, half - len(taps) : half + 1]
        if np.ptp(middle, axis=1).max() <= 1e-9 * middle.max():
            repeated = np.repeat(short[:, half : half + 1], steps - SHORT, axis=1)
            return np.concatenate([short[:, :half], repeated, short[:, half:]], axis=1)
    start = len(taps) - 1
    bands = np.zeros((len(taps), steps))
    for apart in range(len(taps)):
        # z[s] is in tap t - s of the residuals t = start..steps - 1
        for tap, product in enumerate(taps[: len(taps) - apart] * taps[apart:]):
            first, stop = max(start - tap - apart, 0), max(steps - tap - apart, 0)
            bands[apart, first:stop] += strength * product
    bands[0] += 1
    return cholesky_banded(bands, lower=True, overwrite_ab=True, check_finite=False)
