"""From the configuration of a dataset to its series."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from benchmarks.data.authenticity import check_series
from benchmarks.data.series import Series
from benchmarks.errors import InputError


def load_series(dataset_cfg: Mapping[str, Any], data_root: Path) -> Series:
    """Call the loader and compare what it returns with the `expected` facts, if there are any."""
    series = call_loader(dataset_cfg, data_root)
    failed = [check for check in check_series(series, dataset_cfg.get("expected")) if not check.ok]
    if failed:
        raise InputError(
            f"dataset {series.name}: the files in {data_root / series.name} are not the expected "
            f"data: {failed[0].label}: {failed[0].detail}. A slice or a series of your own needs a "
            "name of its own in conf/dataset/; dataset.expected=null switches this check off"
        )
    return series


def call_loader(dataset_cfg: Mapping[str, Any], data_root: Path) -> Series:
    """Call what `loader._target_` names with `name`, `data_root` and the loader's other keys."""
    missing = [key for key in ("name", "loader") if not dataset_cfg.get(key)]
    if missing:
        given = ", ".join(str(key) for key in dataset_cfg)
        raise InputError(f"dataset configuration lacks {' and '.join(missing)}: it has {given}")
    name = str(dataset_cfg["name"])
    options = {str(key): value for key, value in dataset_cfg["loader"].items()}
    target = str(options.pop("_target_", ""))
    loader = _locate(name, target)
    try:
        inspect.signature(loader).bind(name=name, data_root=data_root, **options)
    except TypeError as error:
        raise InputError(
            f"dataset {name}: loader {target}{inspect.signature(loader)} does not fit the keys of "
            f"the configuration: {error}"
        ) from error
    series = loader(name=name, data_root=data_root, **options)
    if not isinstance(series, Series):
        raise InputError(f"dataset {name}: loader {target} returned {type(series)}, not a Series")
    return series


def _locate(name: str, target: str) -> Callable[..., object]:
    module, _, function = target.rpartition(".")
    try:
        loader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"dataset {name}: loader._target_={target!r} cannot be imported ({error}); it must be "
            "`module.function`, such as benchmarks.data.table.load"
        ) from error
    if not callable(loader):
        raise InputError(f"dataset {name}: loader._target_={target!r} is no function")
    return cast(Callable[..., object], loader)
