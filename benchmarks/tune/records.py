"""A study's trials as its report reads them, from the files in its folder alone."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cell import pattern
from benchmarks.errors import InputError
from benchmarks.tune.fields import DEFAULT, EPOCHS, SECOND_COLUMN, STUDY, TEXTS, TRIALS
from benchmarks.tune.space import Space


@dataclass(frozen=True)
class Records:
    """What a study has found.

    Attributes:
        folder: of the study.
        definition: what the study is.
        trials: lines of `trials.csv`, numbers as numbers, None where there is nothing.
        epochs: validation MAE after each epoch, by trial.
    """

    folder: Path
    definition: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    epochs: Mapping[int, Sequence[float]]

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.definition["study"])

    @cached_property
    def space(self) -> Space:
        """What was varied."""
        return Space(self.definition["choice"], self.definition["space"])

    @cached_property
    def counted(self) -> list[Mapping[str, Any]]:
        """The trials that count: the last of each row of repeats."""
        repeated = {trial["repeats"] for trial in self.trials}
        return [trial for trial in self.trials if trial["trial"] not in repeated]

    @cached_property
    def done(self) -> list[Mapping[str, Any]]:
        """The trials that went to their end, by validation error."""
        done = [trial for trial in self.counted if trial["state"] == "done"]
        return sorted(done, key=lambda trial: float(trial["val_mae"]))

    @property
    def best(self) -> Mapping[str, Any]:
        """The trial with the lowest validation error; there must be one that is done."""
        return self.done[0]

    @cached_property
    def default(self) -> Mapping[str, Any] | None:
        """The trial of the method's default configuration, if it was completed."""
        return next((trial for trial in self.done if trial["origin"] == DEFAULT), None)

    @cached_property
    def second(self) -> str:
        """Column of the second objective, or ""."""
        return SECOND_COLUMN.get(self.definition["also_minimise"], "")

    @cached_property
    def front(self) -> list[Mapping[str, Any]]:
        """The trials that no other beats in both objectives, by validation error."""
        front: list[Mapping[str, Any]] = []
        for trial in self.done:
            if not front or trial[self.second] < front[-1][self.second]:
                front.append(trial)
        return front

    @cached_property
    def common_epoch(self) -> int:
        """The last epoch that at least half of the trials reached; 0 if no epochs are known."""
        lengths = sorted(len(self.epochs.get(trial["trial"], ())) for trial in self.counted)
        return lengths[len(lengths) // 2] if lengths else 0

    def comparable(self) -> list[tuple[Mapping[str, Any], float]]:
        """The trials that reached the common epoch, and their best validation MAE until then.

        Trials that were given up have no final error; at the same epoch all can be compared.
        """
        if not self.common_epoch:
            return [(trial, float(trial["val_mae"])) for trial in self.done]
        curves = ((trial, self.epochs.get(trial["trial"], ())) for trial in self.counted)
        return [
            (trial, min(curve[: self.common_epoch]))
            for trial, curve in curves
            if len(curve) >= self.common_epoch
        ]

    @property
    def hidden(self) -> str:
        """What is hidden, in a few words."""
        mask = self.definition["config"]["mask"]
        return pattern({"pattern": mask["name"], "rate": mask["rate"]})

    def values(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the configuration's keys in a trial."""
        return self.space.values(trial)


def read_records(folder: Path) -> Records:
    """Reads a study's files.

    Raises:
        InputError: one of them is not there or damaged.
    """
    try:
        definition = yaml.safe_load((folder / STUDY).read_text(encoding="utf-8"))
        space = Space(definition["choice"], definition["space"])
        texts = _read_csv(folder / TRIALS)
        epochs: dict[int, list[float]] = {}
        for line in _read_csv(folder / EPOCHS):
            epochs.setdefault(int(line["trial"]), []).append(float(line["val_mae"]))
        trials = [_typed(line, space) for line in texts]
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} is not there: a study's report is made from {STUDY}, {TRIALS} and "
            f"{EPOCHS}"
        ) from error
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"the files in {folder} are damaged: {error!r}") from error
    return Records(folder, definition, trials, epochs)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _typed(line: Mapping[str, str], space: Space) -> dict[str, Any]:
    """A line of `trials.csv` with values of the right kinds; lists are texts, as in Optuna."""
    typed: dict[str, Any] = {}
    for column, text in line.items():
        if column in TEXTS or (column in space.lines and not _is_number(text)):
            typed[column] = text
        else:
            typed[column] = json.loads(text) if text else None
    return typed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
