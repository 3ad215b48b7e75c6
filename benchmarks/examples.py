"""A small excerpt of the test steps that goes with each row, so that figures can be redrawn."""

from collections.abc import Mapping, Sequence

import numpy as np

STEPS = 288
"""Steps of an excerpt: a day of five-minute steps."""

SENSORS = 4
"""Sensors of an excerpt."""


def example_arrays(
    arrays: Mapping[str, np.ndarray], sensors: Sequence[str]
) -> dict[str, np.ndarray]:
    """One day of a few sensors; which ones depends on the mask alone, not on the method.

    The day is the last whole one of the test; the sensors are spread over those that have most
    readings on it.

    Args:
        arrays: `imputed`, `truth`, `held_out`, `visible` `[t n]` and `time` `[t]`.
        sensors: their ids.

    Returns:
        The same names, cut to `[288 4]`, and `sensors`.
    """
    day = slice(max(0, len(arrays["time"]) - STEPS), None)
    known = (arrays["held_out"] | arrays["visible"])[day].sum(axis=0)
    fullest = np.sort(np.argsort(-known, kind="stable")[: max(SENSORS, len(known) // 2)])
    chosen = fullest[np.linspace(0, len(fullest) - 1, min(SENSORS, len(fullest))).astype(int)]
    excerpt = {
        name: array[day] if array.ndim == 1 else array[day][:, chosen]
        for name, array in arrays.items()
    }
    return excerpt | {"sensors": np.array([sensors[i] for i in chosen])}
