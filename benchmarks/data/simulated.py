"""Loader of the simulated dataset, the one that ships with the package.

No sensor measured these readings: `scripts/simulate_network.py` made them with the traffic
simulator UXsim and says how. They serve demonstrations and tests, not claims about real traffic.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data.series import Series

FILE = Path(__file__).with_name("simulated.npz")
MISSING = 65535  # tenths of a mile per hour where the sensor delivered nothing
STEP = "5min"


def load(name: str = "simulated", data_root: Path | None = None) -> Series:
    """Load the packaged file: speeds in mph of 52 sensors over 28 days from 2024-01-01 00:00.

    Args:
        name: name that the series gets.
        data_root: not read, since the file lies in the package; every loader has this argument.
    """
    with np.load(FILE, allow_pickle=False) as archive:
        high, low = archive["tenths_of_mph"].astype(np.uint16)  # bytes, each [n t]
        start = str(archive["start"])
        sensors = tuple(str(sensor) for sensor in archive["sensors"])
        distances, coordinates = archive["distances"], archive["coordinates"]
    tenths = (256 * high + low).T  # [t n]
    observed = tenths != MISSING
    values = np.where(observed, tenths / np.float32(10), np.float32(np.nan))
    return Series(
        name=name,
        values=values.astype(np.float32),
        observed=observed,
        time=pd.date_range(start, periods=len(values), freq=STEP, unit="ns"),
        sensors=sensors,
        unit="mph",
        distances=distances,
        coordinates=coordinates,
        simulated=True,
    )
