"""Builds a method from its configuration and gives it what it declares to need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate

from benchmarks.calendar import step_of_day, steps_per_day, time_features
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.graph import adjacency
from benchmarks.masks import MaskedSeries
from benchmarks.windows import Split

KINDS = ("gradient", "closed_form", "windowed")

TRAINED = ("gradient", "windowed")
"""Kinds whose configuration says under `training:` how they are trained."""


@dataclass(frozen=True)
class Setting:
    """What a method is built from; it gets only what `NEEDS` takes out of it, nothing hidden."""

    masked: MaskedSeries
    split: Split
    seed: int
    graph: Mapping[str, Any]
    time_features: str = "none"


def _adjacency(setting: Setting) -> torch.Tensor:
    series = setting.masked.series
    if series.distances is None:
        raise NeedNotMetError(f"{series.name} has no road distances, which the method needs")
    return torch.from_numpy(adjacency(series, **setting.graph))


NEEDS: dict[str, Callable[[Setting], object]] = {
    "n_nodes": lambda s: len(s.masked.series.sensors),
    "window": lambda s: s.split.window,
    "adjacency": _adjacency,
    "n_time_features": lambda s: time_features(s.masked.series.time[:1], s.time_features).shape[1],
    "n_train_steps": lambda s: s.split.steps(s.split.train).stop,
    "steps_per_day": lambda s: steps_per_day(s.masked.series.time),
    "day_steps": lambda s: step_of_day(s.masked.series.time),
    "weekdays": lambda s: s.masked.series.time.day_of_week.to_numpy().astype(np.int64),
    "seed": lambda s: s.seed,
}
"""What a method may ask for by name under `needs:` and gets as a constructor argument."""


def build(model: Mapping[str, Any], setting: Setting) -> Any:
    """Instantiates `model["network"]` with what `model["needs"]` lists.

    Raises:
        NeedNotMetError: the dataset cannot provide it, or the package that `model["requires"]`
            names is not installed; the cell is skipped with this reason.
        InputError: an unknown kind or need, or a value that the method refuses.
    """
    if model["kind"] not in KINDS:
        raise InputError(f"model.kind={model['kind']!r} is unknown; choose from {', '.join(KINDS)}")
    if (model["kind"] in TRAINED) != ("training" in model):
        raise InputError(
            f"model={model['name']}: `training` belongs to kind {' and '.join(TRAINED)} and to no "
            f"other; it is {'there' if 'training' in model else 'missing'} with kind "
            f"{model['kind']}"
        )
    unknown = sorted(set(model["needs"]) - set(NEEDS))
    if unknown:
        raise InputError(f"model.needs has {', '.join(unknown)}; choose from {', '.join(NEEDS)}")
    _require_package(model)
    needed = {name: NEEDS[name](setting) for name in model["needs"]}
    torch.manual_seed(setting.seed)
    try:
        return instantiate(dict(model["network"]), _convert_="all", **needed)
    except Exception as error:  # hydra wraps whatever a constructor raises
        cause = error.__cause__ or error
        raise InputError(f"model={model['name']}: {cause}") from error


def _require_package(model: Mapping[str, Any]) -> None:
    """`requires:` names a package that only this method needs; the suite has extras for some."""
    package = model.get("requires")
    if package is not None and find_spec(package) is None:
        extra = package in (metadata("psan").get_all("Provides-Extra") or [])
        what = f"'.[{package}]'" if extra else package
        raise NeedNotMetError(
            f"{model['name']} needs the package {package}, which is not installed: "
            f"pip install {what}"
        )
