"""Many processes on one store at once, stores that go away, and processes that are killed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import environment
from mlflow import MlflowClient
from postgres import Postgres
from tracked_cells import CONFIG, identity, key_of, line, row

from benchmarks.tracking import Tracker, connect

SCRIPT = Path(__file__).parent.parent / "tracked_cells.py"


def rush(folder: Path, uri: str, workers: int, runs: int, epochs: int) -> str:
    """Processes that all begin at the same moment; returns what they said."""
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, uri, *map(str, (worker, runs, epochs))],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for worker in range(workers)
    ]
    while len([*folder.glob("ready*")]) < workers:
        assert not [p.returncode for p in processes if p.poll()], "a process failed at its start"
        time.sleep(0.05)
    (folder / "go").touch()
    said = "".join(process.communicate()[0] for process in processes)
    assert [process.returncode for process in processes] == [0] * workers, said
    return said


def check_nothing_is_lost(uri: str, workers: int, runs: int, epochs: int) -> None:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("psan/load")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`psan.run_key` != ''")
    by_key = {run.data.tags["psan.run_key"]: run for run in found}
    assert len(by_key) == len(found)
    assert set(by_key) == {key_of(w, r) for w in range(workers) for r in range(runs)}
    parents = client.search_runs([experiment.experiment_id], "tags.`psan.sweep` = 'load'")
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
    said = rush(tmp_path, "sqlite:///mlflow.db", workers=8, runs=4, epochs=6)
    assert said == ""
    check_nothing_is_lost(f"sqlite:///{tmp_path}/mlflow.db", workers=8, runs=4, epochs=6)


def test_four_processes_on_a_fresh_postgresql_store_lose_nothing(
    postgres: Postgres, tmp_path: Path
) -> None:
    uri = postgres.new_database()
    before = len(postgres.log())
    said = rush(tmp_path, uri, workers=4, runs=5, epochs=6)
    assert said == ""
    check_nothing_is_lost(uri, workers=4, runs=5, epochs=6)
    assert "ERROR" not in postgres.log()[before:]


@pytest.mark.parametrize("seconds", [0.2, 1.0])
def test_a_process_that_is_killed_while_it_makes_the_store_spoils_nothing(
    seconds: float, tmp_path: Path
) -> None:
    command = [sys.executable, SCRIPT, "sqlite:///mlflow.db", "0", "1", "1"]
    killed = subprocess.Popen(command, cwd=tmp_path, env=environment())
    while not (tmp_path / "ready0").exists():
        time.sleep(0.01)
    (tmp_path / "go").touch()
    while not (tmp_path / "mlflow.db.new").exists():
        time.sleep(0.01)
    time.sleep(seconds)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert (tmp_path / "mlflow.db.new").exists(), "it was made before the process was killed"
    assert not (tmp_path / "mlflow.db").exists()

    again = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stderr == ""
    check_nothing_is_lost(f"sqlite:///{tmp_path}/mlflow.db", workers=1, runs=1, epochs=1)


def test_a_store_that_goes_away_during_a_run_and_comes_back_has_all_of_it(
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.tracking.live.EPOCH_SECONDS", 0)
    monkeypatch.setattr("benchmarks.tracking.store.PAUSES", (0.1,))
    tracking = {"kind": "mlflow", "uri": postgres.new_database()}
    key = key_of(0, 0)
    tracker = Tracker(tracking, "load", identity(key), CONFIG)
    tracker.epoch(line(1, value=0))
    postgres.stop()
    tracker.epoch(line(2, value=0))
    tracker.epoch(line(3, value=0))
    assert len(caplog.records) == 1
    assert "an epoch of mean on small" in caplog.text
    postgres.start()
    tracker.finish(row(key), tmp_path)
    assert len(caplog.records) == 1
    check_nothing_is_lost(tracking["uri"], workers=1, runs=1, epochs=3)


def test_a_store_that_is_away_at_the_start_has_the_run_at_the_end(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.tracking.live.AGAIN_SECONDS", 0)
    tracking = {"kind": "mlflow", "uri": postgres.new_database()}
    connect(tracking)
    postgres.stop()
    key = key_of(0, 0)
    tracker = Tracker(tracking, "load", identity(key), CONFIG)
    for epoch in (1, 2):
        tracker.epoch(line(epoch, value=0))
    postgres.start()
    tracker.finish(row(key), tmp_path)
    check_nothing_is_lost(tracking["uri"], workers=1, runs=1, epochs=2)
