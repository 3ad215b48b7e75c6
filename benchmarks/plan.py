"""The cells that a command line asks for, each with its key: made by composing them all."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.atomic import write_text_atomically
from benchmarks.data.files import default_data_root
from benchmarks.errors import InputError
from benchmarks.gpus import may_have_gpu
from benchmarks.sweeps import (
    cells_of,
    config_dirs,
    expand_experiment,
    read_experiment,
    task_overrides,
    value_of,
)

if TYPE_CHECKING:
    from benchmarks.compose import Composer

FILE = "plan.json"


@dataclass(frozen=True)
class PlannedCell:
    """A cell before it is run.

    Attributes:
        overrides: what Hydra composes it from.
        key: its run key; empty where it was refused.
        identity: the columns of its row that are known before.
        refused: why its configuration cannot be, or empty.
        retry_failed: attempts that a launch gives it if it has failed.
    """

    overrides: list[str]
    key: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    refused: str = ""
    retry_failed: int = 0


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of, and the folder of its results."""

    folder: Path
    cells: list[PlannedCell]


def make_plan(arguments: Sequence[str]) -> Plan:
    """Composes every cell of a command line of `benchmarks.run`, reads its data, finds its key.

    The plan is kept in the experiment's folder for `kept_plan`.

    Raises:
        HydraException: what Hydra cannot parse or compose.
        InputError: an unknown experiment or configuration folder.
    """
    launches = expand_experiment(arguments)
    from benchmarks.compose import composer
    from benchmarks.identify import forget_series

    cells: dict[str, PlannedCell] = {}  # one that two grids have is run once
    with composer(launches[0] if launches else arguments) as composing:
        folder = Path(composing.sweep.results_dir) / composing.sweep.name
        for overrides in (own for launch in launches for own in cells_of(task_overrides(launch))):
            cell = _planned(composing, overrides)
            cells.setdefault(cell.key or " ".join(overrides), cell)
    forget_series()
    plan = Plan(folder, list(cells.values()))
    content = {"digest": _digest(arguments), "cells": [asdict(cell) for cell in plan.cells]}
    with suppress(OSError):  # an aid to `kept_plan`, not a result
        write_text_atomically(folder / FILE, json.dumps(content))
    return plan


def kept_plan(arguments: Sequence[str]) -> Plan:
    """The plan of an earlier call for the same command line, or a new one.

    An earlier one serves while the configuration files and the files in the data folder have not
    changed; it takes no composing, which for 1000 cells is a matter of a minute.

    Raises:
        HydraException: what Hydra cannot parse or compose.
        InputError: an unknown experiment or configuration folder.
    """
    folder = _folder(arguments)
    try:
        content = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        return make_plan(arguments)
    if content["digest"] != _digest(arguments):
        return make_plan(arguments)
    return Plan(folder, [PlannedCell(**cell) for cell in content["cells"]])


def _planned(composing: "Composer", overrides: list[str]) -> PlannedCell:
    from benchmarks.identify import identify

    try:
        cell, execution = composing.cell(overrides)
        found = identify(cell)
    except (InputError, TypeError) as error:  # TypeError: a key that no option has
        return PlannedCell(overrides, refused=str(error))
    return PlannedCell(
        overrides, found.key, dict(found.identity), retry_failed=execution.retry_failed
    )


def _folder(arguments: Sequence[str]) -> Path:
    """Where the plan of these arguments was kept, without composing them."""
    name = value_of(arguments, "experiment")
    own: dict[str, Any] = {}
    if name not in (None, "null"):
        own = read_experiment(str(name), config_dirs(arguments))
    places = {
        key: value_of(arguments, key) or own.get(key) or default
        for key, default in (("results_dir", "results"), ("name", "default"))
    }
    return Path(places["results_dir"]) / places["name"]


def _digest(arguments: Sequence[str]) -> str:
    """Changes with whatever a plan depends on."""
    digest = hashlib.sha256(version("psan").encode())
    digest.update(json.dumps([*arguments, may_have_gpu()]).encode())
    sources = (Path(__file__).with_name(name) for name in ("cell.py", "plan.py"))
    configured = (path for folder in config_dirs(arguments) for path in folder.rglob("*.yaml"))
    for path in (*sources, *sorted(configured)):
        digest.update(str(path).encode() + path.read_bytes())
    data_root = Path(value_of(arguments, "data_root") or default_data_root())
    digest.update(json.dumps(_stats(sorted(data_root.glob("*/*")))).encode())
    return digest.hexdigest()[:16]


def _stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    return [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in paths]
