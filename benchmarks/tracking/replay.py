"""Runs after the event: local rows into a store, and the runs that dead workers left behind."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmarks import rows
from benchmarks.claims import holder
from benchmarks.errors import InputError
from benchmarks.tracking.content import (
    FINISHED_TAG,
    KEY_TAG,
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
from benchmarks.tracking.store import check, connect, patiently, reason, sqlite_file, tolerated
from benchmarks.tracking.sweeps import describe_sweep

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


@dataclass
class Synced:
    """What a replay did.

    Args:
        rows: how many of them came to what.
        killed: runs that were marked because their worker is gone.
        problems: errors of single rows.
    """

    rows: Counter[Outcome] = field(default_factory=Counter)
    killed: int = 0
    problems: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """In a few words."""
        always = (Outcome.NEW, Outcome.THERE, Outcome.COMPLETED)
        parts = [f"{self.rows[o]} {o}" for o in Outcome if o in always or self.rows[o]]
        if self.killed:
            parts.append(f"{self.killed} of dead workers marked as killed")
        return ", ".join(parts)


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
            seconds = history[-1]["seconds"] if history else row.get("train_seconds") or 0
            start = end - round(1000 * seconds)
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


def sync(tracking: Mapping[str, Any], experiment: Path) -> Synced:
    """Replays an experiment's rows into a store; what is there already is left as it is.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.

    Raises:
        InputError: a store that cannot be reached, or that fails on the way.
    """
    done = Synced()
    with FileLock(experiment / "sync.lock"):  # two at once would both find a run missing
        try:
            client = connect(tracking)
            if client is None:
                raise InputError(f"tracking.kind={tracking['kind']} names no store")
            replay = Replay.of(client, experiment)
            _send_all(replay, done)
            done.killed = replay.kill_dead()
            describe_sweep(client, replay.experiment_id, experiment)
        except InputError:
            raise
        except Exception as error:  # of MLflow's, a database's or the network's many kinds
            raise InputError(
                f"tracking.uri={tracking['uri']} failed after {sum(done.rows.values())} rows: "
                f"{reason(error)}"
            ) from error
    return done


def _send_all(replay: Replay, done: Synced) -> None:
    known = defaultdict(list)
    for run in find_runs(replay.client, replay.experiment_id):
        known[run.data.tags[KEY_TAG]].append(run)
    for path in sorted(replay.experiment.glob("cells/*/row.json")):
        try:
            row = rows.read_row(replay.experiment, path.parent.name)
            if row is None:
                continue
            busy = holder(path.parent) is not None
            done.rows[Outcome.RUNNING if busy else replay.send(row, known[row["key"]])] += 1
        except InputError as error:
            done.problems.append(str(error))


def end_run(tracking: Mapping[str, Any], experiment: Path, row: Mapping[str, Any]) -> None:
    """Ends the run of a cell whose worker can do that no longer, with what its row says.

    For whoever stopped the worker or saw it die, after the row was written: the run that the worker
    left is completed. Should the store fail, that is said.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.
        row: of the cell.

    Raises:
        InputError: an unknown kind of tracking.
    """
    check(tracking)
    with tolerated(f"the end of {row['model']} ({row['key']})", experiment.name):
        client = connect(tracking)
        if client is not None:
            replay = Replay.of(client, experiment)
            replay.send(row, [*find_runs(client, replay.experiment_id, row["key"])])


def close_dead_runs(tracking: Mapping[str, Any], experiment: Path) -> None:
    """Marks runs as KILLED whose worker is gone.

    On this machine its process tells, on another the heartbeat of its claim. Should the store fail,
    that is said.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.

    Raises:
        InputError: an unknown kind of tracking.
    """
    check(tracking)
    file = sqlite_file(str(tracking["uri"]))
    if file is not None and not file.exists():
        return
    with tolerated(f"which runs of {experiment.name} are dead", experiment.name):
        client = connect(tracking)
        if client is not None:
            Replay.of(client, experiment).kill_dead()


def _is_complete(run: "Run", row: Mapping[str, Any]) -> bool:
    return run.data.tags.get(FINISHED_TAG) == row["finished"] and run.info.status != "RUNNING"


def _could_be(run: "Run", row: Mapping[str, Any], end: int) -> bool:
    """Whether a run that is not complete is that of the row, by when it started."""
    stamp = run.data.tags.get(FINISHED_TAG)
    return stamp in (None, row["finished"]) and run.info.start_time <= end + STAMP_MILLISECONDS


def _milliseconds(stamp: str) -> int:
    """Since 1970."""
    return round(1000 * datetime.fromisoformat(stamp).timestamp())
