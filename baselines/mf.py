"""Matrix factorisation: a few factors of the step times a few factors of the sensor.

Yehuda Koren, Robert Bell, Chris Volinsky. "Matrix Factorization Techniques for Recommender
Systems". Computer 42(8), 2009. doi:10.1109/MC.2009.263. Alternating least squares: "Learning
Algorithms". Rank 10 and the role of a baseline are those of Andrea Cini, Ivan Marisca, Cesare
Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation by Graph Neural Networks".
ICLR 2022. arXiv:2108.00298.

For standardised readings x[t, i] it minimises

    Σ_visible (x[t, i] - u[t]·v[i])² + ridge (Σ_t |u[t]|² + (T/N) Σ_i |v[i]|²)

Deviations:

* GRIN's comparison descends the gradient (fancyimpute, Nadam) to an early stop; here each half of
  the factors is solved exactly in turn, to the relative change `tolerance` of what is minimised.
* The ridge of a sensor is that of a step times T/N, for T steps and N sensors: the factors of
  both are then of one size, and one ridge fits series of any length.
* Readings are standardised sensor by sensor, which takes the place of the bias terms.
"""

import numpy as np
from jaxtyping import Bool, Float

from baselines.gaps import network_mean, visible_moments


class MF:
    """Low-rank completion by alternating least squares with a ridge.

    Args:
        seed: of the factors to start from.
        rank: number of factors.
        ridge: penalty on the factors of a step, in squared standard deviations.
        max_iterations: rounds at most, each over steps and sensors.
        tolerance: stop when a round lowers the objective by less than this share.

    Raises:
        ValueError: `rank` or `max_iterations` below 1, `ridge` not above 0, a negative tolerance.
    """

    def __init__(
        self,
        *,
        seed: int,
        rank: int = 10,
        ridge: float = 1.0,
        max_iterations: int = 50,
        tolerance: float = 1e-4,
    ):
        for name, value in (("rank", rank), ("max_iterations", max_iterations)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if ridge <= 0:
            raise ValueError(f"ridge={ridge} must be above 0")
        if tolerance < 0:
            raise ValueError(f"tolerance={tolerance} must be 0 or more")
        self.seed, self.rank, self.ridge = seed, rank, ridge
        self.max_iterations, self.tolerance = max_iterations, tolerance

    def impute(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Fill a series.

        A step with nothing visible gets the mean of each sensor; a sensor with nothing visible
        gets, at each step, the mean of the sensors visible then.

        Args:
            values: readings in their own unit; anything where not visible.
            visible: True where `values` may be read.

        Raises:
            ValueError: if nothing at all is visible.
        """
        of_step = network_mean(values, visible).astype(values.dtype)[:, None]
        mean, spread = visible_moments(values, visible)
        x = np.where(visible, (values - mean) / spread, 0.0).astype(np.float32)
        of_steps, of_sensors = self._factors(x, visible.astype(np.float32))
        filled = (of_steps @ of_sensors.T * spread + mean).astype(values.dtype)
        filled = np.where(np.isnan(mean), of_step, filled)
        return np.where(visible, values, filled)

    def _factors(
        self, x: Float[np.ndarray, "t n"], weight: Float[np.ndarray, "t n"]
    ) -> tuple[Float[np.ndarray, "t r"], Float[np.ndarray, "n r"]]:
        """Factors of the steps and of the sensors; `x` is 0 where `weight` is."""
        steps, sensors = x.shape
        balance = steps / sensors
        rng = np.random.default_rng(self.seed)
        v = rng.standard_normal((sensors, self.rank), dtype=np.float32)
        before = np.inf
        for _ in range(self.max_iterations):
            u = least_squares(x, weight, v, self.ridge)
            v = least_squares(x.T, weight.T, u, self.ridge * balance)
            misfit = np.square(x - weight * (u @ v.T)).sum(dtype=np.float64)
            objective = misfit + self.ridge * (np.square(u).sum() + balance * np.square(v).sum())
            if objective >= (1 - self.tolerance) * before:
                break
            before = objective
        return least_squares(x, weight, v, self.ridge), v


def least_squares(
    x: Float[np.ndarray, "a b"],
    weight: Float[np.ndarray, "a b"],
    factors: Float[np.ndarray, "b r"],
    ridge: float,
) -> Float[np.ndarray, "a r"]:
    """Ridge regression of each row of `x`, where `weight` is 1, on the rows of `factors`."""
    rank = factors.shape[1]
    squares = (factors[:, :, None] * factors[:, None, :]).reshape(-1, rank * rank)
    gram = (weight @ squares).reshape(-1, rank, rank).astype(np.float64)
    gram += ridge * np.eye(rank)
    target = (x @ factors).astype(np.float64)
    return np.linalg.solve(gram, target[..., None])[..., 0].astype(np.float32)
