"""Runs one trial: a training without a test, judged by its validation error."""

import csv
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import Trial, TrialState
from torch import nn

from benchmarks.atomic import write_text_atomically
from benchmarks.budgets import WindowedTraining
from benchmarks.cell import Cell
from benchmarks.claims import claimed
from benchmarks.data.series import Series
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.failures import failure_of, is_about_place
from benchmarks.fit import train
from benchmarks.identify import identify
from benchmarks.machine import software
from benchmarks.masks import MaskedSeries
from benchmarks.masks.drawing import draw_mask
from benchmarks.methods import Setting, build
from benchmarks.process import keep_freed_memory
from benchmarks.rows import cell_folder
from benchmarks.tracking import Parent, Tracker
from benchmarks.training import NonFiniteLossError
from benchmarks.tune.fields import (
    CELL,
    CURVE,
    DEFAULT,
    FACTS,
    KEPT,
    ORIGIN,
    REASON,
    SECOND_COLUMN,
)
from benchmarks.windowed import train_windowed
from benchmarks.windows import split_windows

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Ended:
    """How a trial ended.

    `state` and `values` are Optuna's; `again` says that it may be repeated: its parameters are not
    known to be at fault.
    """

    state: TrialState
    values: list[float] | None
    row: Mapping[str, Any]
    again: bool = False


def setting_of(cell: Cell, series: Series) -> Setting:
    """What the method of a cell is built from and trained on.

    Raises:
        InputError: a mask or a window that does not fit the series.
        NeedNotMetError: the dataset lacks something that the mask needs.
    """
    drawn = draw_mask(cell.generator, cell.mask["needs"], series, cell.mask_seed).drawn
    split = split_windows(len(series.time), cell.window)
    masked = MaskedSeries(series, drawn)
    return Setting(masked, split, cell.seed, cell.dataset["graph"], cell.model["time_features"])


def run_trial(trial: Trial, cell: Cell, also_minimise: str) -> Ended:
    """Trains the cell of a trial, from its last checkpoint if there is one, and notes how it went.

    Args:
        trial: is told of each epoch, and gives the training up where the pruner says so.
        cell: the cell with the trial's parameters.
        also_minimise: the second objective, or "".

    Raises:
        InputError: data that cannot be read, or a disk that takes no more files.
    """
    found = identify(cell)
    if found.series is None:
        assert found.error is not None
        raise found.error
    folder = cell_folder(cell.experiment, found.key)
    folder.mkdir(parents=True, exist_ok=True)
    trial.set_user_attr(CELL, found.key)
    while True:
        with claimed(folder) as other:
            if other is None:
                return _run(trial, cell, found.series, dict(found.identity), folder, also_minimise)
        time.sleep(POLL_SECONDS)  # another trial has drawn the same parameters


def _run(
    trial: Trial,
    cell: Cell,
    series: Series,
    identity: dict[str, Any],
    folder: Path,
    also_minimise: str,
) -> Ended:
    write_text_atomically(folder / "config.yaml", yaml.safe_dump(cell.plain(), sort_keys=False))
    named = identity | {"model": f"trial {trial.number} {identity['model']}"}
    study = Parent("study", cell.name)
    tags = {"psan.trial": str(trial.number)}
    tracker = Tracker(cell.tracking, cell.name, named, cell.plain(), study, tags)
    report = _EpochReport(trial, tracker, prune=not also_minimise)
    report.replay(folder / "history.csv")
    try:
        facts = _train(cell, setting_of(cell, series), folder, report)
        ended = Ended(TrialState.COMPLETE, _values(facts, also_minimise), {"status": "done"})
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from stop
    except optuna.TrialPruned:
        facts = report.facts()
        ended = Ended(TrialState.PRUNED, None, {"status": "pruned"})
    except Exception as error:
        if is_about_place(error):
            raise InputError(f"{folder} cannot be written: {error}") from error
        facts, ended = report.facts(), _failed(trial, error)
    _note(trial, report, facts, ended)
    finished = {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
    status = None if ended.state is TrialState.FAIL else "FINISHED"  # pruned is no failure
    row = {"reason": "", **software(), **facts, **ended.row, **finished}
    tracker.finish(row, folder, status)
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()
    return ended


def _failed(trial: Trial, error: Exception) -> Ended:
    """How a trial ended with an error; one of no known kind may be no fault of its parameters."""
    row = failure_of(error)
    known = isinstance(error, (InputError, NeedNotMetError, NonFiniteLossError))
    again = not known and row["status"] == "failed"
    if again:
        log.error("trial %d failed", trial.number, exc_info=error)
    return Ended(TrialState.FAIL, None, row, again)


def _train(cell: Cell, setting: Setting, folder: Path, report: "_EpochReport") -> dict[str, Any]:
    """Trains the method of a cell; no test window is predicted."""
    method = build(cell.model, setting)
    if isinstance(method, nn.Module):
        report.n_params = sum(p.numel() for p in method.parameters() if p.requires_grad)
    keep_freed_memory()
    training = cell.training
    if isinstance(training, WindowedTraining):
        return train_windowed(method, training, setting, cell.trainer)
    assert training is not None
    return train(method, training, setting, cell.trainer, folder, report)


def _values(facts: Mapping[str, Any], also_minimise: str) -> list[float]:
    second = [float(facts[SECOND_COLUMN[also_minimise]])] if also_minimise else []
    return [float(facts["val_mae"]), *second]


def _note(trial: Trial, report: "_EpochReport", facts: Mapping[str, Any], ended: Ended) -> None:
    """Keeps in the study what its files and figures are made of."""
    trial.set_user_attr(CURVE, [report.curve[epoch] for epoch in sorted(report.curve)])
    trial.set_user_attr(FACTS, {name: facts[name] for name in KEPT if name in facts})
    if ended.row.get("reason"):
        trial.set_user_attr(REASON, ended.row["reason"])


class _EpochReport:
    """Tells Optuna and MLflow of each epoch, and ends a training that the pruner gives up.

    Optuna's own callback for Lightning needs another package than the suite's; and this one works
    where several processes train, since it is called in the one that started them.
    """

    def __init__(self, trial: Trial, tracker: Tracker, prune: bool):
        self.trial, self.tracker, self.one_objective = trial, tracker, prune
        self.may_prune = prune and trial.user_attrs.get(ORIGIN) != DEFAULT
        self.curve: dict[int, float] = {}
        self.n_params: int | None = None
        self._last: Mapping[str, Any] = {}

    def replay(self, history: Path) -> None:
        """Reports the epochs of an earlier launch."""
        with suppress(FileNotFoundError), history.open(newline="") as file:
            if not (history.parent / "last.ckpt").exists():
                return  # it begins anew
            for line in csv.DictReader(file):
                self._report({name: float(value) for name, value in line.items()})

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Takes an epoch's line of the history.

        Raises:
            TrialPruned: the trial is given up.
        """
        numbers = {name: float(value) for name, value in line.items()}
        self.tracker.epoch(numbers)
        self._report(numbers)
        if self.may_prune and self.trial.should_prune():
            raise optuna.TrialPruned

    def facts(self) -> dict[str, Any]:
        """What is known of a training that did not end by itself."""
        if not self.curve:
            return {}
        best = min(self.curve, key=lambda epoch: self.curve[epoch])
        return {
            "n_params": self.n_params,
            "val_mae": self.curve[best],
            "best_epoch": best,
            "epochs": len(self.curve),
            "train_seconds": self._last["seconds"],
        }

    def _report(self, line: Mapping[str, float]) -> None:
        epoch = int(line["epoch"])
        if epoch not in self.curve and self.one_objective:
            self.trial.report(line["val_mae"], epoch)
        self.curve[epoch] = line["val_mae"]
        self._last = line
