"""Last observation carried forward.

Roderick J. A. Little, Donald B. Rubin. "Statistical Analysis with Missing Data", third edition.
Wiley, 2019. Chapter 4, single imputation.

Deviation: a gap that opens the series, before any observation, gets the first one that follows.
"""

import numpy as np
from jaxtyping import Bool, Float

from baselines.gaps import network_mean, next_visible, previous_visible


class Last:
    """The sensor's last visible reading, whatever its age."""

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
        of_step = network_mean(values, visible).astype(values.dtype)[:, None]
        source = previous_visible(visible)
        source = np.where(source < 0, next_visible(visible), source)
        unknown = source == len(values)
        carried = np.take_along_axis(values, np.where(unknown, 0, source), axis=0)
        return np.where(unknown, of_step, carried)
