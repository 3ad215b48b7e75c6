"""Imputation with the one-step predictor of a vector autoregression.

Helmut Lütkepohl. "New Introduction to Multiple Time Series Analysis". Springer, 2005.
DOI 10.1007/978-3-540-27752-1
As the VAR baseline of Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate
Time Series Imputation by Graph Neural Networks". ICLR, 2022. arXiv:2108.00298: a step is predicted
from the last `order` steps, visible or filled before, and fills what is missing of it.

Deliberate deviations from that baseline:

* Ridge least squares on the training steps instead of Adam on windows of 24 steps; gaps of the
  training steps are interpolated for it, one at their end to the next visible reading. Fitting
  again on the series as the predictor fills it did not lower the best validation error on the
  slices (tried with the prior zero).
* The prior of the coefficients is zero, or each sensor's own autoregression and zero elsewhere.
  Prior and ridge are those with the smallest error at the visible readings of the last tenth of
  the training steps (at most `HELD_BACK`) when fitted on the others.
* One pass over the series; the published one starts anew in each window.
* A second regression fills backwards in time. The estimates are averaged with the distance to the
  nearest visible reading on the other side as weight (`direction="both"`).
* Predictions are clipped to the range of the sensor's training steps: the pass may be unstable.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from baselines.gaps import next_visible, previous_visible, visible_mean
from baselines.linear import Linear

DIRECTIONS = ("forward", "backward", "both")
PRIORS = ("zero", "own")

BLOCK = 4096
"""Steps of which the regressors are held in memory at a time."""

HELD_BACK = 1000
"""Steps, at most, on which prior and ridge are chosen."""

OWN_RIDGE = 1e-3
"""Ridge of the sensors' own autoregressions, in units of the variance."""


class Var:
    """Vector autoregression, fitted on the training steps, fills the whole series.

    Args:
        n_train_steps: leading steps of the series that it is fitted on.
        order: steps that a prediction is made from.
        direction: of the filling: "forward", "backward" or "both".
        ridge: penalties to choose from, in units of the sensors' variance.
        priors: of the coefficients, to choose from: "zero" or "own".

    Raises:
        ValueError: an option that is not one of the choices, or too few steps for the order.
    """

    def __init__(
        self,
        *,
        n_train_steps: int,
        order: int = 5,
        direction: str = "both",
        ridge: Sequence[float] = (0.003, 0.01, 0.03, 0.1, 0.3),
        priors: Sequence[str] = PRIORS,
    ) -> None:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction!r}; choose from {', '.join(DIRECTIONS)}")
        if not priors or not set(priors) <= set(PRIORS):
            raise ValueError(f"priors={list(priors)}; choose from {', '.join(PRIORS)}")
        if not ridge or min(ridge) <= 0:
            raise ValueError(f"ridge={list(ridge)} must hold penalties above 0")
        if order < 1 or n_train_steps < 3 * order:
            raise ValueError(
                f"order={order} must be at least 1, and at most a third of the {n_train_steps} "
                "training steps"
            )
        self.n_train_steps, self.order, self.direction = n_train_steps, order, direction
        self.candidates = [(prior, penalty) for prior in priors for penalty in ridge]

    def impute(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Fill a series.

        A sensor with nothing visible in the training steps is interpolated linearly; with nothing
        visible at all it gets, at each step, the mean of the sensors visible then.

        Args:
            values: readings in their own unit; anything where not visible.
            visible: True where `values` may be read.

        Raises:
            ValueError: if nothing at all is visible, or the series ends within the training steps.
        """
        train = self.n_train_steps
        if len(values) < train:
            raise ValueError(f"{len(values)} steps are fewer than n_train_steps={train}")
        filled = Linear().impute(values, visible)
        known = visible[:train].any(axis=0)
        if not known.any():
            return filled
        seen, start = visible[:, known], filled[:, known].astype(np.float64)
        mean = visible_mean(start[:train], seen[:train], axis=0)
        spread = np.sqrt(visible_mean((start[:train] - mean) ** 2, seen[:train], axis=0))
        spread = np.where(spread > 0, spread, 1.0)
        estimate = mean + spread * self._estimate(((start - mean) / spread).astype("f4"), seen)
        filled[:, known] = np.where(seen, filled[:, known], estimate)
        return filled

    def _estimate(
        self, z: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Both passes over the standardised series, interpolated where not visible."""
        train = z[: self.n_train_steps], visible[: self.n_train_steps]
        passes = {}
        if self.direction != "backward":
            passes["forward"] = self._fit(*train).fill(z, visible)
        if self.direction != "forward":
            backward = self._fit(train[0][::-1], train[1][::-1])
            passes["backward"] = backward.fill(z[::-1], visible[::-1])[::-1]
        if self.direction != "both":
            return passes[self.direction]
        share = share_of_forward(visible)
        return share * passes["forward"] + (1 - share) * passes["backward"]

    def _fit(self, z: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]) -> "Predictor":
        cut = len(z) - min(max(len(z) // 10, 1), HELD_BACK)
        errors = []
        for predictor in fit(z[:cut], self.order, self.candidates):
            predicted = predictor.fill(
                z[cut:], visible[cut:], z[cut - self.order : cut], ahead=True
            )
            errors.append(np.where(visible[cut:], np.abs(predicted - z[cut:]), 0.0).sum())
        return next(fit(z, self.order, [self.candidates[int(np.argmin(errors))]]))


@dataclass(frozen=True)
class Predictor:
    """One-step predictor: regressors of the last step come first, those of the earliest last."""

    weights: Float[np.ndarray, "k n"]
    bias: Float[np.ndarray, "n"]
    lowest: Float[np.ndarray, "n"]
    highest: Float[np.ndarray, "n"]

    def fill(
        self,
        z: Float[np.ndarray, "t n"],
        visible: Bool[np.ndarray, "t n"],
        before: Float[np.ndarray, "p n"] | None = None,
        ahead: bool = False,
    ) -> Float[np.ndarray, "t n"]:
        """Goes through the series, each step predicted from visible and filled ones.

        Args:
            z: standardised readings.
            visible: True where `z` may be read.
            before: steps before the first; the mean if None.
            ahead: return the predictions of the visible entries too, not the readings.
        """
        order = len(self.weights) // z.shape[1]
        steps = np.zeros((order + len(z), z.shape[1]), dtype=self.weights.dtype)
        if before is not None:
            steps[:order] = before
        out = np.empty_like(steps[order:])
        for t in range(len(z)):
            predicted = steps[t : t + order][::-1].ravel() @ self.weights + self.bias
            out[t] = np.minimum(np.maximum(predicted, self.lowest), self.highest)
            steps[t + order] = np.where(visible[t], z[t], out[t])
        return out if ahead else steps[order:]


def fit(
    z: Float[np.ndarray, "t n"], order: int, candidates: Sequence[tuple[str, float]]
) -> Iterator[Predictor]:
    """Ridge least squares for each pair of a prior and a penalty."""
    gram, cross, mean_x, mean_y = moments(z, order)
    eigenvalues, vectors = np.linalg.eigh(gram)
    centres = {"zero": np.zeros_like(cross), "own": own_autoregressions(gram, cross, order)}
    for prior, penalty in candidates:
        centre = centres[prior]
        rest = vectors.T @ (cross - gram @ centre)
        weights = centre + vectors @ (rest / (np.maximum(eigenvalues, 0) + penalty)[:, None])
        bias = mean_y - mean_x @ weights
        yield Predictor(weights.astype("f4"), bias.astype("f4"), z.min(axis=0), z.max(axis=0))


def moments(
    z: Float[np.ndarray, "t n"], order: int
) -> tuple[
    Float[np.ndarray, "k k"],
    Float[np.ndarray, "k n"],
    Float[np.ndarray, "k"],
    Float[np.ndarray, "n"],
]:
    """Covariances of the regressors, and with the targets; the means of both."""
    rows = len(z) - order
    mean_x = np.concatenate([z[order - k : len(z) - k].mean(axis=0) for k in range(1, order + 1)])
    mean_y = z[order:].mean(axis=0)
    gram = np.zeros((len(mean_x), len(mean_x)))
    cross = np.zeros((len(mean_x), len(mean_y)))
    for start in range(order, len(z), BLOCK):
        stop = min(start + BLOCK, len(z))
        x = np.concatenate([z[start - k : stop - k] for k in range(1, order + 1)], axis=1) - mean_x
        gram += x.T @ x
        cross += x.T @ (z[start:stop] - mean_y)
    return gram / rows, cross / rows, mean_x, mean_y


def own_autoregressions(
    gram: Float[np.ndarray, "k k"], cross: Float[np.ndarray, "k n"], order: int
) -> Float[np.ndarray, "k n"]:
    """Weights of regressions of each sensor on its own past; 0 for the other sensors."""
    sensor = np.arange(cross.shape[1])
    place = sensor[:, None] + len(sensor) * np.arange(order)  # [n p]
    own = gram[place[:, :, None], place[:, None, :]] + OWN_RIDGE * np.eye(order)
    weights = np.zeros_like(cross)
    target = cross[place, sensor[:, None]][..., None]
    weights[place, sensor[:, None]] = np.linalg.solve(own, target)[..., 0]
    return weights


def share_of_forward(visible: Bool[np.ndarray, "t n"]) -> Float[np.ndarray, "t n"]:
    """Weight of the forward estimate: the distance to the next reading over that between both."""
    steps = np.arange(len(visible))[:, None]
    before, after = previous_visible(visible), next_visible(visible)
    share = (after - steps) / np.maximum(after - before, 1)
    return np.where(before < 0, 0.0, np.where(after == len(visible), 1.0, share))
