"""Historical average: a sensor's mean at the same step of the day on the same day of the week.

Brian L. Smith, Michael J. Demetsky. "Traffic Flow Forecasting: Comparison of Modeling Approaches".
Journal of Transportation Engineering 123(4), 1997. doi:10.1061/(ASCE)0733-947X(1997)123:4(261).
Neighbouring steps are weighed by a kernel: E. A. Nadaraya. "On Estimating Regression". Theory of
Probability and Its Applications 9(1), 1964. doi:10.1137/1109020. Scarce slots lean on the coarser
mean: Bradley Efron, Carl Morris. "Data Analysis Using Stein's Estimator and its Generalizations".
Journal of the American Statistical Association 70(350), 1975. doi:10.1080/01621459.1975.10479864.

Deviations from the plain average, both off with `smooth=0, shrink=0`: a few weeks hold only a few
readings of a step of the week, so that

* readings of the steps around it count too, with Gaussian weights, round the clock;
* the mean of a slot is pulled towards the next coarser one, as if that had been read `shrink`
  times: step of the week, of the day apart for workdays and weekends, of any day, all readings.

The means are over the whole visible series, steps of the test split included: in-sample.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from baselines.gaps import network_mean, visible_mean

DAYS = 7
SATURDAY = 5


class WeekMean:
    """Mean of a sensor at each step of the week, smoothed over steps and over days.

    Args:
        day_steps: step of the day of each step, from 0 at midnight.
        weekdays: day of the week of each step, Monday is 0.
        steps_per_day: steps that a day has.
        smooth: standard deviation of the kernel over neighbouring steps, in steps; 0 = no kernel.
        shrink: readings that the next coarser mean is worth.

    Raises:
        ValueError: `smooth` or `shrink` is below 0, or a step lies outside the day or the week.
    """

    def __init__(
        self,
        *,
        day_steps: Int[np.ndarray, "t"],
        weekdays: Int[np.ndarray, "t"],
        steps_per_day: int,
        smooth: float = 2.0,
        shrink: float = 0.3,
    ):
        for name, value in (("smooth", smooth), ("shrink", shrink)):
            if value < 0:
                raise ValueError(f"{name}={value} must be 0 or more")
        for name, steps, end in (
            ("day_steps", day_steps, steps_per_day),
            ("weekdays", weekdays, DAYS),
        ):
            if len(steps) and (steps.min() < 0 or steps.max() >= end):
                raise ValueError(
                    f"{name} reach from {steps.min()} to {steps.max()}, out of 0..{end - 1}"
                )
        self.smooth, self.shrink = smooth, shrink
        weekend = (weekdays >= SATURDAY).astype(np.int64)
        # slots from coarse to fine: slot of each step, then the circles that the slots lie on
        self._levels = (
            (day_steps, (1, steps_per_day)),
            (weekend * steps_per_day + day_steps, (2, steps_per_day)),
            (weekdays * steps_per_day + day_steps, (1, DAYS * steps_per_day)),
        )

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
        calendar = len(self._levels[0][0])
        if len(values) != calendar:
            raise ValueError(f"the series has {len(values)} steps, its calendar has {calendar}")
        of_step = network_mean(values, visible).astype(values.dtype)[:, None]
        of_sensor = visible_mean(values, visible, axis=0)
        seen = np.where(visible, values, 0).astype(np.float64)
        filled = np.broadcast_to(of_sensor, values.shape)
        for slot, circles in self._levels:
            filled = self._finer(seen, visible, filled, slot, circles)
        filled = np.where(np.isnan(of_sensor), of_step, filled.astype(values.dtype))
        return np.where(visible, values, filled)

    def _finer(
        self,
        seen: Float[np.ndarray, "t n"],
        visible: Bool[np.ndarray, "t n"],
        coarse: Float[np.ndarray, "t n"],
        slot: Int[np.ndarray, "t"],
        circles: tuple[int, int],
    ) -> Float[np.ndarray, "t n"]:
        """Means of the slots, pulled towards the coarse ones, at every step."""
        total = self._per_slot(seen, slot, circles)[slot]
        count = self._per_slot(visible.astype(np.float64), slot, circles)[slot]
        if self.shrink > 0:
            return (total + self.shrink * coarse) / (count + self.shrink)
        return np.where(count > 0, total / np.where(count > 0, count, 1), coarse)

    def _per_slot(
        self,
        entries: Float[np.ndarray, "t n"],
        slot: Int[np.ndarray, "t"],
        circles: tuple[int, int],
    ) -> Float[np.ndarray, "slots n"]:
        """Sums of the entries of each slot, smoothed along the circle that it lies on."""
        steps, slots = len(slot), circles[0] * circles[1]
        ones = np.ones(steps)
        member = csr_array((ones, (slot, np.arange(steps))), shape=(slots, steps))
        sums = member @ entries
        if self.smooth == 0:
            return sums
        along = sums.reshape(*circles, -1)
        return gaussian_filter1d(along, self.smooth, axis=1, mode="wrap").reshape(slots, -1)
