"""What the clock says at each step: features for the models, positions for the statistics."""

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from benchmarks.errors import InputError

DAY = pd.Timedelta(days=1)
KINDS = ("none", "day", "day_week")


def time_features(time: pd.DatetimeIndex, kind: str) -> Float[np.ndarray, "t f"]:
    """Sine and cosine of the local time of day, and of the time of week if asked.

    Args:
        time: local time of each step.
        kind: "none" (f = 0), "day" (f = 2: sine, cosine of the day) or "day_week" (f = 4: sine,
            cosine of the day, then of the week).

    Raises:
        InputError: an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"time_features={kind!r} is unknown; choose from {', '.join(KINDS)}")
    day = ((time - time.normalize()) / DAY).to_numpy()
    turns = {"none": [], "day": [day], "day_week": [day, (time.day_of_week.to_numpy() + day) / 7]}
    waves = [f(2 * np.pi * turn) for turn in turns[kind] for f in (np.sin, np.cos)]
    return np.stack(waves, axis=1).astype(np.float32) if waves else np.zeros((len(time), 0), "f4")


def steps_per_day(time: pd.DatetimeIndex) -> int:
    """Steps in a day of a regular index."""
    return round(DAY / (time[1] - time[0]))


def step_of_day(time: pd.DatetimeIndex) -> Int[np.ndarray, "t"]:
    """Position of each step in its day, 0 at midnight."""
    return np.rint(np.asarray((time - time.normalize()) / (time[1] - time[0]))).astype(np.int64)
