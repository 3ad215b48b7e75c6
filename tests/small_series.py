"""A small network for tests, and settings and methods built on it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.data.series import Series
from benchmarks.masks import MaskedSeries, point
from benchmarks.methods import Setting
from benchmarks.paths import conf_dir
from benchmarks.windows import split_windows

SENSORS, STEPS, WINDOW = 6, 420, 24

MODELS = sorted(
    path.relative_to(conf_dir() / "model").with_suffix("").as_posix()
    for path in conf_dir().glob("model/**/*.yaml")
)
"""Every method of the suite, such as "grin" or "pypots/csdi"; tests parametrise over it."""

GRAPH = {"kind": "gaussian", "threshold": 0.1, "force_symmetric": False}


def small_series(seed: int = 0) -> Series:
    """A daily wave with noise on a line of sensors a kilometre apart; 5 % natively missing."""
    rng = np.random.default_rng(seed)
    day = np.arange(STEPS)[:, None] / 288 * 2 * np.pi
    values = 50 + 10 * np.sin(day + np.arange(SENSORS)) + rng.normal(0, 1, (STEPS, SENSORS))
    observed = rng.random(values.shape) < 0.95
    place = 1000.0 * np.arange(SENSORS)
    return Series(
        name="small",
        values=np.where(observed, values, np.nan).astype(np.float32),
        observed=observed,
        time=pd.date_range("2024-01-01", periods=STEPS, freq="5min"),
        sensors=tuple(f"s{i}" for i in range(SENSORS)),
        unit="mph",
        distances=np.abs(place[:, None] - place).astype(np.float32),
        coordinates=None,
    )


def small_setting(series: Series | None = None, time_features: str = "none") -> Setting:
    """The small series with a quarter hidden."""
    series = series or small_series()
    masked = MaskedSeries(series, point(series.observed, 7, 0.25))
    split = split_windows(len(series.time), WINDOW)
    return Setting(masked, split, 42, GRAPH, time_features)


def poisoned(setting: Setting, poison: float, steps: slice) -> Setting:
    """The same setting over a series whose hidden readings in `steps` are replaced."""
    series, held_out = setting.masked.series, setting.masked.held_out
    values = series.values.copy()
    values[steps][held_out[steps]] = poison
    other = object.__new__(Series)  # NaN at an observed entry is what the class itself refuses
    for field in dataclasses.fields(Series):
        object.__setattr__(other, field.name, getattr(series, field.name))
    object.__setattr__(other, "values", values)
    return dataclasses.replace(setting, masked=MaskedSeries(other, setting.masked.drawn))


def model_config(name: str, *overrides: str) -> dict[str, Any]:
    """`conf/model/<name>.yaml`, composed as a run would."""
    return composed(f"model={name}", *overrides)["model"]


def composed(*overrides: str) -> dict[str, Any]:
    """The whole configuration of a run."""
    with initialize_config_dir(str(Path(conf_dir()).resolve()), version_base="1.3"):
        config = compose("config", [*overrides])
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return plain
