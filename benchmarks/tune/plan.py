"""What a study is: checked once by the launch, and handed to every worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.compose import Composer, composer
from benchmarks.errors import InputError
from benchmarks.execution import Execution
from benchmarks.process import cores
from benchmarks.tune.options import Options, config_folders
from benchmarks.tune.space import Space, read_space

FOLDER = "tuning"
"""Folder of all studies under `results_dir`."""

HARDWARE = ("accelerator", "devices", "threads", "progress")
"""Keys of the trainer that change no result."""


@dataclass(frozen=True)
class Plan:
    """A study and how it is run.

    Attributes:
        name: of the study.
        options: as given.
        space: what is varied.
        default: the cell of the method's default configuration.
    """

    name: str
    options: Options
    space: Space
    default: Cell

    @property
    def folder(self) -> Path:
        """Where everything about the study is."""
        return self.default.experiment

    @property
    def overrides(self) -> list[str]:
        """The command line of a cell of the study."""
        return [*self.options.hydra, f"model={self.options.model}", f"name={FOLDER}/{self.name}"]

    @property
    def threads(self) -> int | None:
        """Threads of each worker: an equal part of the cores where there are several."""
        given, workers = self.default.trainer.threads, self.options.n_workers
        return max(1, cores() // workers) if given is None and workers > 1 else given

    def cell(self, composing: Composer, values: Sequence[str] = ()) -> Cell:
        """The cell with some values of the search space, as overrides."""
        return _cell(composing, [*self.overrides, *values])

    def on_this_machine(self, cell: Cell) -> Cell:
        """The cell with this launch's number of threads."""
        return replace(cell, trainer=replace(cell.trainer, threads=self.threads))

    def definition(self, fingerprint: str) -> dict[str, Any]:
        """What may not change between launches of a study, as plain values."""
        config = {name: value for name, value in self.default.plain().items() if name != "name"}
        trainer = {key: value for key, value in config["trainer"].items() if key not in HARDWARE}
        precision = self.default.trainer.resolved_precision()
        return {
            "study": self.name,
            "choice": self.options.model,
            "space": {name: dict(line) for name, line in self.space.lines.items()},
            "pruner": self.options.pruner,
            "also_minimise": self.options.also_minimise,
            "budget": self.default.identity("", fingerprint)["budget"],
            "dataset_fingerprint": fingerprint,
            "config": config | {"trainer": trainer | {"precision": precision}},
        }


def make_plan(options: Options) -> Plan:
    """Composes the default configuration and reads the search space.

    Raises:
        InputError: no such method, none with a space, or a value that cannot be.
        HydraException: what Hydra cannot compose.
    """
    space = read_space(options.model, config_folders(options.hydra))
    with composing(options) as composed:
        # the name of the dataset is known only once it is composed
        dataset = _cell(composed, [*options.hydra, f"model={options.model}"]).dataset["name"]
        name = options.study or f"{options.model.replace('/', '_')}_{dataset}"
        if Path(name).name != name or name.startswith("."):
            raise InputError(f"study={name} must be a name that a folder can have")
        default = _cell(
            composed, [*options.hydra, f"model={options.model}", f"name={FOLDER}/{name}"]
        )
    if default.training is None:
        raise InputError(f"model={options.model} is not trained: there is no validation to tune by")
    return Plan(name, options, space, default)


def composing(options: Options) -> Any:
    """What composes the cells of a study; a context."""
    return composer([*options.hydra, f"model={options.model}"])


def _cell(composed: Composer, words: Sequence[str]) -> Cell:
    unknown = [word for word in words if word.partition("=")[0] in Execution.names()]
    if unknown:
        raise InputError(f"{', '.join(unknown)}: it belongs to benchmarks.run, not to a study")
    overrides = [word for word in words if not word.startswith("-")]
    try:
        return composed.cell(overrides)[0]
    except TypeError as error:  # a key that no option has
        raise InputError(str(error)) from error


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Where two definitions differ, as `key: before → now`."""
    found: list[str] = []
    for key in {**before, **now}:
        place = f"{path}{key}"
        one, other = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += differences(one, other, f"{place}.")
        elif one != other:
            found.append(f"{place.removeprefix('config.')}: {one} → {other}")
    return found
