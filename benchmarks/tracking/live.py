"""The run of a cell while it is worked on."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tracking.content import Epoch, read_history, timed
from benchmarks.tracking.parents import Parent, open_experiment, open_parent
from benchmarks.tracking.runs import (
    MOST_METRICS,
    find_runs,
    finish_run,
    is_alive,
    kill_runs,
    log_epochs,
    own_tag,
    start_run,
)
from benchmarks.tracking.store import CACHES, check, connect, tolerated

if TYPE_CHECKING:
    from mlflow import MlflowClient

EPOCH_SECONDS = 5.0
"""Epochs are sent together, at least this long after the last ones were."""

AGAIN_SECONDS = 10.0
"""A run that the store did not take is not offered again at the end of a shorter cell."""


class Tracker:
    """One cell's run in MLflow.

    What cannot be sent waits for the end, where all of it is tried again. No two runs of the same
    key may be worked on at once: whoever starts one holds the claim on its cell.

    Args:
        tracking: `kind` ("mlflow" or "none") and `uri` of the store.
        experiment: the experiment's name; the sweep's parent run bears it too.
        identity: the row's columns that are known before the run.
        config: the resolved configuration.
        parent: the run under which it stands, instead of the sweep's.
        tags: what is to be noted besides.

    Raises:
        InputError: an unknown kind of tracking, or a store whose driver is not installed.
    """

    def __init__(
        self,
        tracking: Mapping[str, Any],
        experiment: str,
        identity: Mapping[str, Any],
        config: Mapping[str, Any],
        parent: Parent | None = None,
        tags: Mapping[str, str] | None = None,
    ):
        check(tracking)
        self._tracking, self._experiment = tracking, experiment
        self._identity, self._config = identity, config
        self._parent, self._tags = parent or Parent("sweep", experiment), dict(tags or {})
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._started, self._next_send, self._failed = _now(), 0.0, False
        self._waiting: list[Epoch] = []
        self._noted: dict[int, Epoch] = {}
        with self._tolerated("the run"):
            self._open()
        self._opened = time.monotonic()

    def epoch(self, line: Mapping[str, float]) -> None:
        """Notes an epoch's line of the history, and sends what is noted when it is time to."""
        epoch = Epoch(_now(), dict(line))
        self._noted[epoch.number] = epoch
        self._waiting.append(epoch)
        full = len(self._waiting) * len(line) >= MOST_METRICS
        if self._run_id and not self._failed and (full or time.monotonic() >= self._next_send):
            self._send()

    def finish(self, row: Mapping[str, Any], folder: Path, status: str | None = None) -> None:
        """Logs the scores and the artifacts, and ends the run.

        Args:
            row: the cell's result row.
            folder: the cell's folder.
            status: MLflow's word for how the run ended; by default the row's status decides.
        """
        if self._tracking["kind"] == "none":
            return
        if not self._run_id and time.monotonic() - self._opened < AGAIN_SECONDS:
            return  # said a moment ago
        with self._tolerated("the scores"):
            if not self._run_id:
                self._open()
            assert self._client is not None
            log_epochs(self._client, self._run_id, self._unsent(folder))
            finish_run(self._client, self._run_id, row, folder, _now(), status)

    def _open(self) -> None:
        """Starts the run. What else runs under its key was left by a worker that is gone."""
        client = connect(self._tracking)
        if client is None:
            return
        experiment_id = open_experiment(client, self._experiment)
        place = experiment_id, open_parent(client, experiment_id, self._parent)
        _close_own_machines_dead(client, experiment_id)
        kill_runs(client, [*find_runs(client, experiment_id, self._identity["key"], running=True)])
        tags = own_tag() | self._tags
        self._run_id = start_run(client, place, self._identity, self._config, self._started, tags)
        self._client = client
        self._next_send = time.monotonic() + EPOCH_SECONDS

    def _send(self) -> None:
        """Sends the epochs that wait; should the store fail, they wait for the end."""
        assert self._client is not None
        self._failed = True
        with self._tolerated("an epoch"):
            log_epochs(self._client, self._run_id, self._waiting)
            self._waiting, self._failed = [], False
            self._next_send = time.monotonic() + EPOCH_SECONDS

    def _unsent(self, folder: Path) -> list[Epoch]:
        """The epochs that wait, and those of earlier launches, which only the history knows."""
        lines = [line for line in read_history(folder) if int(line["epoch"]) not in self._noted]
        if not lines:
            return self._waiting
        anchor = next(iter(self._noted.values()), Epoch(self._started, lines[-1]))
        return [*timed(lines, anchor), *self._waiting]

    def _tolerated(self, what: str) -> AbstractContextManager[None]:
        identity = self._identity
        of = f"{identity['model']} on {identity['dataset']} ({identity['key']})"
        return tolerated(f"{what} of {of}", self._experiment)


@cache
def _close_own_machines_dead(client: "MlflowClient", experiment_id: str) -> None:
    """Marks what processes of this machine left, the first time that a process comes along."""
    running = find_runs(client, experiment_id, running=True)
    kill_runs(client, [run for run in running if not is_alive(run)])


CACHES.append(_close_own_machines_dead.cache_clear)


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
