"""Linear interpolation along time, sensor by sensor.

Richard L. Burden, J. Douglas Faires, Annette M. Burden. "Numerical Analysis", tenth edition.
Cengage, 2016. Section 3.1, linear interpolating polynomial.

Beyond the first and the last visible reading the nearest of them is repeated.
"""

import numpy as np
from jaxtyping import Bool, Float

from baselines.gaps import network_mean, next_visible, previous_visible


class Linear:
    """The straight line between the visible readings on both sides of a gap."""

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
        known = visible.any(axis=0)
        filled[:, ~known] = of_step[:, None]

        step, sensor = np.nonzero(~visible & known)
        before = previous_visible(visible)[step, sensor]
        after = next_visible(visible)[step, sensor]
        before, after = (
            np.where(before < 0, after, before),
            np.where(after == len(values), before, after),
        )
        start = values[before, sensor].astype(np.float64)
        share = (step - before) / np.maximum(after - before, 1)
        filled[step, sensor] = start + share * (values[after, sensor] - start)
        return filled
