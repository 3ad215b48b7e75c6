"""A local row into a store, as if its run had been tracked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import rows
from benchmarks.tracking.content import (
    FINISHED_TAG,
    Epoch,
    read_config,
    read_history,
    timed,
)
from benchmarks.tracking.parents import Parent, open_experiment, open_parent
from benchmarks.tracking.runs import (
    find_runs,
    finish_run,
    is_alive,
    kill_runs,
    log_epochs,
    log_parameters,
    start_run,
)
from benchmarks.tracking.store import patiently

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Outcome(StrEnum):
    """What became of a row in a replay."""

    NEW = "new"
    THERE = "already there"
    COMPLETED = "completed"
    RUNNING = "still running, left alone"
    UNCONFIGURED = "failed before they started, left out"


STAMP_MILLISECONDS = 1000
"""Precision of a row's finished stamp."""


@dataclass(frozen=True)
class Replay:
    """An experiment's place in a store, and its folder.

    Args:
        client: of the store.
        experiment: folder of the results; its name is the experiment's.
        experiment_id: in the store.
    """

    client: "MlflowClient"
    experiment: Path
    experiment_id: str

    @classmethod
    def of(cls, client: "MlflowClient", experiment: Path) -> "Replay":
        """Opens the experiment in the store."""
        return cls(client, experiment, open_experiment(client, experiment.name))

    def send(self, row: Mapping[str, Any], known: Sequence["Run"]) -> Outcome:
        """Brings a row's run to where it would be, had it been tracked without disturbance.

        Args:
            row: the cell's.
            known: the runs of its key, the newest first.

        Returns:
            What became of it.

        Raises:
            InputError: a damaged file.
        """
        end = _milliseconds(row["finished"])
        if any(_is_complete(run, row) for run in known):
            return Outcome.THERE
        folder = rows.cell_folder(self.experiment, row["key"])
        config = read_config(folder)
        if config is None:
            return Outcome.UNCONFIGURED
        history = read_history(folder)
        epochs = list(timed(history, Epoch(end, history[-1]))) if history else []
        begun = next((run for run in known if _could_be(run, row, end)), None)
        if begun is None:
            start = end - round(1000 * _duration(row, history))
            run_id = start_run(self.client, self._place(), row, config, start, {})
        else:
            run_id = begun.info.run_id
            log_parameters(self.client, begun, config)
            epochs = self._lacking(run_id, epochs)
        log_epochs(self.client, run_id, epochs)
        finish_run(self.client, run_id, row, folder, end)
        return Outcome.NEW if begun is None else Outcome.COMPLETED

    def kill_dead(self) -> int:
        """Marks the runs whose worker is gone, and returns how many there were."""
        running = find_runs(self.client, self.experiment_id, running=True)
        dead = [run for run in running if not is_alive(run, self.experiment)]
        kill_runs(self.client, dead)
        return len(dead)

    def _place(self) -> tuple[str, str]:
        sweep = Parent("sweep", self.experiment.name)
        return self.experiment_id, open_parent(self.client, self.experiment_id, sweep)

    def _lacking(self, run_id: str, epochs: Sequence[Epoch]) -> list[Epoch]:
        """The epochs that a run has not; each was sent as a whole."""
        known = patiently(self.client.get_metric_history, run_id, "history/seconds")
        there = {metric.step for metric in known}
        return [epoch for epoch in epochs if epoch.number not in there]


def _is_complete(run: "Run", row: Mapping[str, Any]) -> bool:
    return run.data.tags.get(FINISHED_TAG) == row["finished"] and run.info.status != "RUNNING"


def _could_be(run: "Run", row: Mapping[str, Any], end: int) -> bool:
    """Whether a run that is not complete is that of the row, by when it started."""
    stamp = run.data.tags.get(FINISHED_TAG)
    return stamp in (None, row["finished"]) and run.info.start_time <= end + STAMP_MILLISECONDS


def _duration(row: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> float:
    """Seconds from the run's start to its end, as far as it is known."""
    trained = history[-1]["seconds"] if history else row.get("train_seconds") or 0.0
    return max(trained, row.get("seconds") or 0.0)


def _milliseconds(stamp: str) -> int:
    """Since 1970."""
    return round(1000 * datetime.fromisoformat(stamp).timestamp())
