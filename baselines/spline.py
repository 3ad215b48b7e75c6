"""Piecewise cubic interpolation along time, sensor by sensor.

`pchip`: Frederick N. Fritsch, Judy Butland. "A Method for Constructing Local Monotone Piecewise
Cubic Interpolants". SIAM Journal on Scientific and Statistical Computing 5(2), 1984.
doi:10.1137/0905021.
`akima`: Hiroshi Akima. "A New Method of Interpolation and Smooth Curve Fitting Based on Local
Procedures". Journal of the ACM 17(4), 1970. doi:10.1145/321607.321609.
`cubic`: Carl de Boor. "A Practical Guide to Splines". Springer, 1978. Chapter IV, the natural
cubic spline.

Deviations: beyond the first and the last visible reading the nearest of them is repeated, and no
estimate leaves the range of the two readings on both sides of its gap. Pchip never does; the
others swing far out of it in long gaps.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.interpolate import Akima1DInterpolator, CubicSpline, PchipInterpolator

from baselines.gaps import network_mean


def _natural(steps: np.ndarray, readings: np.ndarray) -> CubicSpline:
    return CubicSpline(steps, readings, bc_type="natural")


CURVES: dict[str, Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "pchip": PchipInterpolator,
    "akima": Akima1DInterpolator,
    "cubic": _natural,
}


class Spline:
    """A smooth curve through the visible readings of a sensor.

    Args:
        kind: `pchip`, `akima` or `cubic`.

    Raises:
        ValueError: any other kind.
    """

    def __init__(self, *, kind: str = "pchip"):
        if kind not in CURVES:
            raise ValueError(f"kind={kind!r} is unknown; choose from {', '.join(CURVES)}")
        self.kind = kind

    def impute(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Fill a series.

        A sensor with nothing visible gets, at each step, the mean of the sensors visible then.

        Args:
            values: readings in their own unit; anything where not visible.
            visible: True where `values` may be read.

        Raises:
            ValueError: if nothing at all is visible.
        """
        of_step = network_mean(values, visible)
        filled = values.copy()
        for sensor in range(values.shape[1]):
            known = np.flatnonzero(visible[:, sensor])
            missing = np.flatnonzero(~visible[:, sensor])
            if len(known):
                readings = values[known, sensor].astype(np.float64)
                filled[missing, sensor] = self._at(missing, known, readings)
            else:
                filled[:, sensor] = of_step
        return filled

    def _at(
        self,
        missing: Int[np.ndarray, "m"],
        known: Int[np.ndarray, "k"],
        readings: Float[np.ndarray, "k"],
    ) -> Float[np.ndarray, "m"]:
        """The curve through `readings` at the steps `known`, at the steps `missing`."""
        after = np.searchsorted(known, missing)
        before = np.maximum(after - 1, 0)
        after = np.minimum(after, len(known) - 1)
        start, end = readings[before], readings[after]
        if len(known) == 1:
            return start
        inside = np.clip(missing, known[0], known[-1])
        curve = CURVES[self.kind](known, readings)(inside)
        return np.clip(curve, np.minimum(start, end), np.maximum(start, end))
