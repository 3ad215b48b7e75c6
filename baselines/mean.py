"""Mean imputation: every gap gets the mean of its sensor.

Roderick J. A. Little, Donald B. Rubin. "Statistical Analysis with Missing Data", third edition.
Wiley, 2019. Section 4.2.1, unconditional mean imputation.

The mean is over the whole visible series, steps of the test split included: in-sample, as in the
GRIN paper (arXiv:2108.00298).
"""

import numpy as np
from jaxtyping import Bool, Float

from baselines.gaps import network_mean, visible_mean


class Mean:
    """Mean of each sensor's visible entries."""

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
        of_step = network_mean(values, visible)[:, None]
        of_sensor = visible_mean(values, visible, axis=0)
        filling = np.where(np.isnan(of_sensor), of_step, of_sensor)
        return np.where(visible, values, filling.astype(values.dtype))
