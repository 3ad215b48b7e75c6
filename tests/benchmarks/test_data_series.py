"""What a `Series` accepts, and what its fingerprint depends on."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.data.series import Series, shorten
from benchmarks.errors import InputError


def make(**changes: Any) -> Series:
    values = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]], dtype=np.float32)
    arguments: dict[str, Any] = {
        "name": "tiny",
        "values": values,
        "observed": ~np.isnan(values),
        "time": pd.date_range("2024-01-01", periods=3, freq="5min"),
        "sensors": ("a", "b"),
        "unit": "mph",
        "distances": np.array([[0, 10], [np.inf, 0]], dtype=np.float32),
        "coordinates": np.array([[34.1, -118.2], [34.2, -118.3]]),
    }
    return Series(**arguments | changes)


def test_valid_series() -> None:
    series = make()
    assert (series.n_steps, series.n_nodes, series.steps_per_day) == (3, 2, 288)
    assert series.missing_rate == pytest.approx(1 / 6)
    assert series.step == pd.Timedelta("5min")
    with pytest.raises(dataclasses.FrozenInstanceError):
        series.name = "other"  # type: ignore[misc]


TIME = pd.date_range("2024-01-01", periods=3, freq="5min")
FULL = np.ones((3, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.ones((3, 2))}, "float32"),
        ({"values": np.ones(3, dtype=np.float32)}, r"float32 \[t n\]"),
        ({"observed": np.ones((3, 2), dtype=np.uint8)}, "observed must be bool"),
        ({"observed": np.ones((2, 3), dtype=bool)}, "observed must be bool"),
        ({"observed": np.ones((3, 2), dtype=bool)}, "step 0 of sensor 1 is observed but .* nan"),
        ({"values": FULL}, "step 0 of sensor 1 is not observed but .* 1.0"),
        (
            {"values": FULL * np.float32(np.inf), "observed": FULL > 0},
            "step 0 of sensor 0 is observed but .* inf",
        ),
        ({"values": FULL[:1], "observed": FULL[:1] > 0}, "at least 2 steps"),
        ({"sensors": ("a",)}, "1 sensor ids for 2 columns"),
        ({"sensors": ("a", "a")}, "more than once: a"),
        (
            {
                "values": np.where([1, 0], FULL, np.float32(np.nan)),
                "observed": np.where([1, 0], FULL, 0) > 0,
            },
            "no reading at all from sensor b",
        ),
        ({"time": TIME[:2]}, "2 timestamps for 3 steps"),
        ({"time": TIME.tz_localize("UTC")}, "time zone"),
        ({"time": TIME[[0, 1, 1]]}, "not regular: 2024-01-01 00:05:00 is followed by"),
        ({"time": TIME[::-1]}, "does not divide a day"),
        ({"time": pd.date_range("2024", periods=3, freq="7min")}, "does not divide a day"),
        ({"time": pd.DatetimeIndex([TIME[0], pd.NaT, TIME[1]])}, "empty timestamp"),
        ({"distances": np.zeros((3, 3), dtype=np.float32)}, "distances must be float32"),
        ({"distances": np.ones((2, 2), dtype=np.float32)}, "0 on the diagonal"),
        ({"distances": np.array([[0, -1], [1, 0]], dtype=np.float32)}, ">= 0"),
        ({"coordinates": np.zeros((3, 2))}, "coordinates must be float64"),
        ({"coordinates": np.array([[34.0, -118], [-118, 34]])}, "sensor b .* not latitude"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"series tiny: .*{message}"):
        make(**changes)


def test_any_regular_step_that_divides_a_day() -> None:
    assert make(time=pd.date_range("2024", periods=3, freq="1h")).steps_per_day == 24


def test_fingerprint_ignores_names_and_units() -> None:
    same = make(name="other", unit="km/h", coordinates=None, time=TIME.as_unit("s"))
    assert make().fingerprint == same.fingerprint
    assert len(make().fingerprint) == 16
    assert int(make().fingerprint, 16)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.array([[1, np.nan], [2, 3], [4, 6]], dtype=np.float32)},
        {"values": FULL * np.float32(1), "observed": FULL > 0},
        {"time": TIME + pd.Timedelta("5min")},
        {"time": pd.date_range("2024-01-01", periods=3, freq="10min")},
        {"sensors": ("b", "a")},
        {"distances": None},
        {"distances": np.array([[0, 11], [np.inf, 0]], dtype=np.float32)},
    ],
)
def test_fingerprint_changes(changes: dict[str, Any]) -> None:
    assert make().fingerprint != make(**changes).fingerprint


def test_a_zero_reading_differs_from_a_missing_one() -> None:
    zero = make(values=np.array([[1, 0], [2, 3], [4, 5]], dtype=np.float32), observed=FULL > 0)
    assert zero.fingerprint != make().fingerprint


def test_shorten() -> None:
    assert shorten(["a", "b"]) == "a, b"
    assert shorten([str(i) for i in range(7)]) == "0, 1, 2, 3, 4 and 2 more"
