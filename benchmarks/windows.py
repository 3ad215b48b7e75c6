"""Windows of consecutive steps and their split over time into training, validation and test."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from benchmarks.errors import InputError

TEST_SHARE = 0.2
"""Share of all windows, the last ones, that are for the test (GRIN, section 4)."""

VALIDATION_SHARE = 0.1
"""Share of the windows before the test, their last ones, that are for validation (GRIN)."""


@dataclass(frozen=True)
class Split:
    """Start steps of the windows of each part; no step is shared between parts."""

    window: int
    train: range
    validation: range
    test: range

    def steps(self, starts: range) -> slice:
        """Steps that the windows starting in `starts` cover."""
        return slice(starts[0], starts[-1] + self.window)


def split_windows(n_steps: int, window: int = 24) -> Split:
    """Splits the windows of a series, stride 1, as the published code does (72 / 8 / 20 %).

    Training and validation each give up their last `window` windows, which would overlap the
    next part.

    Raises:
        InputError: a window below two steps, or a series too short for one window in each part.
    """
    if window < 2:
        raise InputError(f"window={window} must be at least 2 steps")
    n_windows = n_steps - window + 1
    n_test = int(TEST_SHARE * n_windows)
    n_validation = int(VALIDATION_SHARE * (n_windows - n_test))
    first_validation = n_windows - n_test - n_validation
    first_test = n_windows - n_test
    split = Split(
        window=window,
        train=range(first_validation - window),
        validation=range(first_validation, first_test - window),
        test=range(first_test, n_windows),
    )
    if min(len(split.train), len(split.validation), len(split.test)) < 1:
        raise InputError(
            f"{n_steps} steps are too few to split into training, validation and test windows "
            f"of {window} steps; about {15 * window} are needed"
        )
    return split


def windows_covering(starts: range, window: int, n_steps: int) -> Int[np.ndarray, "t"]:
    """How many of the windows contain each of the `n_steps` steps."""
    change = np.zeros(n_steps + 1, dtype=np.int64)
    np.add.at(change, np.asarray(starts), 1)
    np.add.at(change, np.asarray(starts) + window, -1)
    return change.cumsum()[:-1]
