"""What of a cell stands in MLflow: pure functions of its configuration, history and row."""

import csv
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from benchmarks.cell import pattern
from benchmarks.errors import InputError
from benchmarks.rows import METRICS

KEY_TAG = "psan.run_key"
FINISHED_TAG = "psan.finished"
"""The row's finished stamp: a run that has it is complete."""

PARAMETERS = {
    "model": "model.name",
    "dataset": "dataset.name",
    "pattern": "mask.name",
    "rate": "mask.rate",
    "protocol": "protocol",
    "window": "window",
    "seed": "seed",
    "mask_seed": "mask_seed",
    "max_epochs": "trainer.max_epochs",
    "batches_per_epoch": "trainer.batches_per_epoch",
}
"""Columns of the run table in the UI, and where in the configuration they stand; the values under
`model.network` and `model.training` are logged besides."""

SCORES = (
    *(f"{convention}_{metric}" for convention in ("window", "step") for metric in METRICS),
    "val_mae", "rate_native", "rate_hidden", "rate_total", "n_params", "epochs", "best_epoch",
    "train_steps", "train_seconds", "seconds_per_step", "windows_per_second", "peak_memory_mb",
)  # fmt: skip

TAGS = ("status", "mask_hash", "git_commit", "device", "precision", "torch_version", "reason")
"""Columns of the row that become tags, where they say something."""

ARTIFACTS = ("row.json", "config.yaml", "history.csv", "scores.csv", "example.npz")
"""Files of a cell's folder that go with its run, if they are there."""

LONGEST_PARAMETER, LONGEST_TAG = 500, 5000
"""Characters; MLflow takes somewhat more, some of its databases no more than that."""


class Epoch(NamedTuple):
    """A line of the history and when it was written, in milliseconds since 1970."""

    time: int
    line: Mapping[str, float]

    @property
    def number(self) -> int:
        """From 1 on."""
        return int(self.line["epoch"])


def run_name(identity: Mapping[str, Any]) -> str:
    """What the run is called in tables and legends, where nothing else tells it from others."""
    seed = "" if identity["seed"] is None else f", seed {identity['seed']}"
    what = f"{identity['model']} {identity['dataset']} {pattern(identity)}"
    return f"{what}, mask {identity['mask_seed']}{seed}"


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """The configuration as the few columns that the UI shows.

    Raises:
        InputError: it lacks one of them.
    """

    def at(path: str) -> Any:
        value: Any = config
        for part in path.split("."):
            try:
                value = value[part]
            except (KeyError, TypeError) as error:
                raise InputError(f"the configuration has no {path}") from error
        return value

    network = {k: v for k, v in at("model.network").items() if k != "_target_"}
    training = config["model"].get("training") or {}
    values = {name: at(path) for name, path in PARAMETERS.items()} | network | training
    return {name: str(value)[:LONGEST_PARAMETER] for name, value in values.items()}


def first_tags(identity: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a run from its start on."""
    return {
        KEY_TAG: identity["key"],
        "psan.dataset_fingerprint": identity["dataset_fingerprint"],
        "psan.budget": identity["budget"],
    }


def last_tags(row: Mapping[str, Any]) -> dict[str, str]:
    """Tags that a run gets at its end."""
    return {f"psan.{name}": str(row[name])[:LONGEST_TAG] for name in TAGS if row.get(name)}


def scores(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's numbers."""
    return {name: float(row[name]) for name in SCORES if row.get(name) is not None}


def epoch_metrics(epoch: Epoch) -> dict[str, float]:
    """The numbers of a line of the history."""
    return {f"history/{name}": value for name, value in epoch.line.items() if name != "epoch"}


def read_config(folder: Path) -> dict[str, Any] | None:
    """What was run; None for a cell that failed before it came to that.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is damaged: it is no mapping")
    try:
        parameters(config)
    except InputError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return config


def read_history(folder: Path) -> list[dict[str, float]]:
    """The lines of a cell's `history.csv`, none if it has no such file.

    Raises:
        InputError: it is damaged.
    """
    path = folder / "history.csv"
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{k: float(v) for k, v in line.items()} for line in csv.DictReader(file)]
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def timed(lines: Iterable[Mapping[str, float]], anchor: Epoch) -> Iterator[Epoch]:
    """Epochs of which only the seconds since the training's start are known.

    Args:
        lines: of the history.
        anchor: an epoch of the same training of which the time is known.
    """
    for line in lines:
        before = anchor.line["seconds"] - line["seconds"]
        yield Epoch(anchor.time - round(1000 * before), line)


def gather_artifacts(row: Mapping[str, Any], folder: Path, into: Path) -> None:
    """Copies a cell's files, and draws its example."""
    for name in ARTIFACTS:
        if (folder / name).exists():
            shutil.copyfile(folder / name, into / name)
    if row["status"] == "done" and (folder / "example.npz").exists():
        from benchmarks.figures import example_figure  # and matplotlib with it

        example_figure(folder / "example.npz", row).savefig(into / "example.png")
