"""Many processes on one store at once, stores that go away, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import environment
from mlflow import MlflowClient
from postgres import Postgres
from tracked_cells import CONFIG, identity, key_of, line, row

from benchmarks.tracking import Tracker, connect

SCRIPT = Path(__file__).parent.parent / "tracked_cells.py"


def command(uri: str, runs: int, epochs: int, folders: Sequence[Path]) -> list[str]:
    return [sys.executable, str(SCRIPT), uri, str(runs), str(epochs), *map(str, folders)]


def rush(uri: str, runs: int, epochs: int, folders: Sequence[Path]) -> None:
    """Processes that all begin at the same moment and have nothing to complain about."""
    done = subprocess.run(
        command(uri, runs, epochs, folders), env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def check_nothing_is_lost(
    uri: str, workers: int, runs: int, epochs: int, name: str = "load"
) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"psan/{name}")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`psan.run_key` != ''")
    by_key = {run.data.tags["psan.run_key"]: run for run in found}
    assert len(by_key) == len(found)
    assert set(by_key) == {key_of(w, r) for w in range(workers) for r in range(runs)}
    parents = client.search_runs([experiment.experiment_id], f"tags.`psan.sweep` = '{name}'")
    assert len(parents) == 1
    for worker in range(workers):
        for number in range(runs):
            run = by_key[key_of(worker, number)]
            assert run.info.status == "FINISHED"
            assert run.data.metrics["step_mae"] == 3.0
            assert run.data.params["learning_rate"] == "1e-05"
            assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
            expected = [line(e, value=1000 * worker + 100 * number) for e in range(1, epochs + 1)]
            for name in ("val_mae", "loss"):
                history = client.get_metric_history(run.info.run_id, f"history/{name}")
                assert [(m.step, m.value) for m in history] == [
                    (one["epoch"], one[name]) for one in expected
                ]


def test_eight_processes_on_a_fresh_sqlite_store_lose_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    rush(uri, runs=4, epochs=6, folders=[tmp_path] * 8)
    check_nothing_is_lost(uri, workers=8, runs=4, epochs=6)


def test_four_processes_on_a_fresh_postgresql_store_lose_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Each in a folder of its own, where it sees no lock of another, as on another machine."""
    uri = postgres.new_database()
    folders = [tmp_path / str(worker) for worker in range(4)]
    for folder in folders:
        folder.mkdir()
    rush(uri, runs=5, epochs=6, folders=folders)
    check_nothing_is_lost(uri, workers=4, runs=5, epochs=6)
    assert "deadlock" not in postgres.log()


def test_a_process_that_is_killed_while_it_makes_the_store_spoils_nothing(
    tmp_path: Path,
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    unfinished = tmp_path / "mlflow.db.new"
    killed = subprocess.Popen(
        command(uri, 1, 1, [tmp_path]), env=environment(), start_new_session=True
    )
    while not unfinished.exists():
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert unfinished.exists(), "the store was made before the process was killed"
    assert not (tmp_path / "mlflow.db").exists()
    rush(uri, runs=1, epochs=1, folders=[tmp_path])
    check_nothing_is_lost(uri, workers=1, runs=1, epochs=1)


@pytest.fixture(scope="module")
def ready(postgres: Postgres) -> dict[str, str]:
    """A store in PostgreSQL that has its tables."""
    tracking = {"kind": "mlflow", "uri": postgres.new_database()}
    connect(tracking)
    return tracking


def test_a_store_that_goes_away_during_a_run_and_comes_back_has_all_of_it(
    postgres: Postgres,
    ready: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.tracking.live.EPOCH_SECONDS", 0)
    monkeypatch.setattr("benchmarks.tracking.store.PAUSES", (0.1,))
    key = key_of(0, 0)
    tracker = Tracker(ready, "during", identity(key), CONFIG)
    tracker.epoch(line(1, value=0))
    postgres.stop()
    tracker.epoch(line(2, value=0))
    tracker.epoch(line(3, value=0))
    assert len(caplog.records) == 1
    assert "an epoch of mean on small" in caplog.text
    postgres.start()
    tracker.finish(row(key), tmp_path)
    assert len(caplog.records) == 1
    check_nothing_is_lost(ready["uri"], workers=1, runs=1, epochs=3, name="during")


def test_a_store_that_is_away_at_the_start_has_the_run_at_the_end(
    postgres: Postgres, ready: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.tracking.live.AGAIN_SECONDS", 0)
    postgres.stop()
    key = key_of(0, 0)
    tracker = Tracker(ready, "start", identity(key), CONFIG)
    for epoch in (1, 2):
        tracker.epoch(line(epoch, value=0))
    postgres.start()
    tracker.finish(row(key), tmp_path)
    check_nothing_is_lost(ready["uri"], workers=1, runs=1, epochs=2, name="start")
