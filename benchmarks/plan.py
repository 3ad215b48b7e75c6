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
from benchmarks.execution import Execution
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

    Raises:
        HydraException: what Hydra cannot parse or compose.
        InputError: an unknown experiment or configuration folder, or a name that is no folder's.
    """
    launches = expand_experiment(arguments)
    from benchmarks.compose import composer
    from benchmarks.identify import forget_series

    cells: dict[str, PlannedCell] = {}  # one that two grids have is run once
    with composer(launches[0] if launches else arguments) as composing:
        name = str(composing.sweep.name)
        if Path(name).name != name or name.startswith("."):
            raise InputError(f"name={name} must be a name that a folder can have")
        folder = Path(composing.sweep.results_dir) / name
        for overrides in (own for launch in launches for own in cells_of(task_overrides(launch))):
            cell = _planned(composing, overrides)
            cells.setdefault(cell.key or " ".join(overrides), cell)
    forget_series()
    return Plan(folder, list(cells.values()))


def keep_plan(plan: Plan, arguments: Sequence[str]) -> None:
    """Writes the plan of a command line into the experiment's folder, for `kept_plan`."""
    content = {"digest": _digest(arguments), "cells": [asdict(cell) for cell in plan.cells]}
    with suppress(OSError):  # it is an aid, not a result
        write_text_atomically(plan.folder / FILE, json.dumps(content))


def kept_plan(arguments: Sequence[str]) -> Plan:
    """The plan that was kept for the same cells, or a new one, kept if the experiment has a folder.

    A kept one serves while the configuration files and the files in the data folder have not
    changed; it takes no composing, which for 1000 cells is a matter of a minute.

    Raises:
        HydraException: what Hydra cannot parse or compose.
        InputError: an unknown experiment or configuration folder.
    """
    folder = _folder(arguments)
    try:
        content = json.loads((folder / FILE).read_text())
    except (FileNotFoundError, ValueError):
        content = {}
    if content.get("digest") != _digest(arguments):
        plan = make_plan(arguments)
        if plan.folder.is_dir():
            keep_plan(plan, arguments)
        return plan
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
    """Changes with what a plan depends on: what is asked for, the suite, configuration and data.

    Data that a loader of one's own reads from elsewhere are not noticed; a launch plans anew.
    """
    words = sorted(word for word in task_overrides(arguments) if not _is_about_execution(word))
    configured = (path for folder in config_dirs(arguments) for path in folder.rglob("*.yaml"))
    data_root = Path(value_of(arguments, "data_root") or default_data_root())
    sources = Path(__file__).parent.rglob("*.py")
    facts = [
        words, version("psan"), may_have_gpu(),
        *(_stats(paths) for paths in (sources, configured, data_root.glob("*/*"))),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _is_about_execution(word: str) -> bool:
    """Whether an override changes neither a cell nor whether it is run again."""
    key = word.lstrip("+~").partition("=")[0]
    return key.startswith("tracking") or key in set(Execution.names()) - {"retry_failed"}


def _stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of each file that is there."""
    found = []
    for path in sorted(paths):
        with suppress(OSError):  # a link to nothing, or a file that has just been renamed
            stat = path.stat()
            found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return found
