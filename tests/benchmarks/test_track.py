"""Local rows sent into a store after the event, and runs that dead workers left behind."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from commands import call, environment
from mlflow import MlflowClient
from tracked_cells import CONFIG, content, identity, key_of, line, runs_of, write_cell

from benchmarks.claims import Claim
from benchmarks.rows import cell_folder
from benchmarks.tracking import Tracker, close_dead_runs, connect, end_run, end_sweep, sync
from benchmarks.tracking.replay import Outcome
from benchmarks.tracking.runs import WORKER_TAG
from benchmarks.tracking.store import forget_stores


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with its tables and nothing else, to be copied."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    connect({"kind": "mlflow", "uri": f"sqlite:///{path}"})
    return path


@pytest.fixture
def tracking(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A fresh store; what MLflow writes besides goes beside it."""
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(tables.read_bytes())
    return {"kind": "mlflow", "uri": f"sqlite:///{tmp_path}/mlflow.db"}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Folder of an experiment."""
    return tmp_path / "results/load"


def statuses(tracking: dict[str, str]) -> list[str]:
    return [run.info.status for run in runs_of(tracking)]


def test_times_of_a_replay_are_those_of_the_history(
    tracking: dict[str, str], experiment: Path
) -> None:
    write_cell(experiment, key_of(0, 0), epochs=3)
    sync(tracking, experiment)
    (run,) = runs_of(tracking)
    history = MlflowClient(tracking["uri"]).get_metric_history(run.info.run_id, "history/loss")
    seconds = [(metric.timestamp - run.info.start_time) / 1000 for metric in history]
    assert seconds == [2, 4, 6]
    assert run.info.end_time - run.info.start_time == 6000
    assert time.gmtime(run.info.end_time / 1000)[:6] == (2026, 1, 2, 3, 4, 5)


def test_a_cell_that_was_run_again_is_another_run(
    tracking: dict[str, str], experiment: Path
) -> None:
    write_cell(experiment, key_of(0, 0), status="failed", reason="no memory")
    assert sync(tracking, experiment).rows == {Outcome.NEW: 1}
    write_cell(experiment, key_of(0, 0), finished="2026-01-03T00:00:00+00:00")
    assert sync(tracking, experiment).rows == {Outcome.NEW: 1}
    assert statuses(tracking) == ["FAILED", "FINISHED"]
    assert sync(tracking, experiment).rows == {Outcome.THERE: 1}


def test_a_run_that_was_left_running_is_completed_if_its_row_is_there(
    tracking: dict[str, str], experiment: Path
) -> None:
    key = key_of(0, 0)
    tracker = Tracker(tracking, "load", identity(key), CONFIG)
    for epoch in (1, 2):
        tracker.epoch(line(epoch))
    tracker._send()
    write_cell(experiment, key, epochs=5, finished="2199-01-01T00:00:00+00:00")
    done = sync(tracking, experiment)
    assert done.rows == {Outcome.COMPLETED: 1}
    (run,) = runs_of(tracking)
    assert run.info.status == "FINISHED"
    assert WORKER_TAG not in run.data.tags
    history = content(tracking, run)["metrics"]["history/val_mae"]
    assert history == [(epoch, 10.0 - epoch) for epoch in range(1, 6)]
    assert sync(tracking, experiment).rows == {Outcome.THERE: 1}


def test_a_run_without_its_artifacts_is_completed(
    tracking: dict[str, str], experiment: Path
) -> None:
    """The database was there, the artifacts' folder could not be written."""
    key = key_of(0, 0)
    Path("mlruns").write_text("in the way")
    tracker = Tracker(tracking, "load", identity(key), CONFIG)
    written = write_cell(experiment, key, epochs=0, finished="2199-01-01T00:00:00+00:00")
    tracker.finish(written, cell_folder(experiment, key))
    (run,) = runs_of(tracking)
    assert (run.info.status, run.data.metrics["step_mae"]) == ("FINISHED", 3.0)
    Path("mlruns").unlink()
    assert sync(tracking, experiment).rows == {Outcome.COMPLETED: 1}
    (run,) = runs_of(tracking)
    assert "config.yaml" in content(tracking, run)["artifacts"]


def test_a_cell_that_somebody_works_on_is_left_alone(
    tracking: dict[str, str], experiment: Path
) -> None:
    key = key_of(0, 0)
    write_cell(experiment, key)
    claim = cell_folder(experiment, key) / "claim.json"
    claim.write_text(json.dumps(asdict(Claim.own())))
    done = sync(tracking, experiment)
    assert done.rows == {Outcome.RUNNING: 1}
    assert "1 still running" in done.describe()
    assert runs_of(tracking) == []


WORKER = """
import sys, time
sys.path.insert(0, sys.argv[3])
from tracked_cells import CONFIG, content, identity, key_of, line, runs_of, write_cell
from benchmarks.tracking import Tracker
tracker = Tracker({"kind": "mlflow", "uri": sys.argv[1]}, "load", identity(sys.argv[2]), CONFIG)
tracker.epoch(line(1))
tracker._send()
print("started", flush=True)
time.sleep(600)
"""


def killed_worker(tracking: dict[str, str], key: str) -> None:
    """A process that is killed in the middle of a run."""
    tests = str(Path(__file__).parent.parent)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, tracking["uri"], key, tests],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdout.readline() == "started\n"
    worker.kill()
    worker.communicate()


def test_runs_of_a_killed_worker_are_marked_or_ended(
    tracking: dict[str, str], experiment: Path
) -> None:
    killed_worker(tracking, key_of(0, 0))
    assert statuses(tracking) == ["RUNNING"]

    timeout = write_cell(
        experiment, key_of(0, 0), epochs=2, status="timeout", reason="after 10 s",
        finished="2199-01-01T00:00:00+00:00",
    )  # fmt: skip
    end_run(tracking, experiment, timeout)
    (run,) = runs_of(tracking)
    assert run.info.status == "FAILED"
    assert run.data.tags["psan.status"] == "timeout"
    steps = [step for step, _ in content(tracking, run)["metrics"]["history/loss"]]
    assert steps == [1, 2]


@pytest.mark.parametrize("by", ["the same cell", "another cell", "a launch", "sync"])
def test_whatever_runs_next_marks_the_runs_of_dead_workers(
    by: str, tracking: dict[str, str], experiment: Path
) -> None:
    key, other = key_of(0, 0), key_of(0, 1)
    left = Tracker(tracking, "load", identity(key), CONFIG)
    as_if_by(tracking, left, Claim(socket.gethostname(), 2**22 + 1, 1.0, 1.0))
    alive = Tracker(tracking, "load", identity(key_of(9, 9)), CONFIG)
    experiment.mkdir(parents=True)
    forget_stores()  # as another process would begin
    if by == "a launch":
        close_dead_runs(tracking, experiment)
    elif by == "sync":
        assert sync(tracking, experiment).killed == 1
    else:
        Tracker(tracking, "load", identity(key if by == "the same cell" else other), CONFIG)
    found = Counter((run.data.tags["psan.run_key"], run.info.status) for run in runs_of(tracking))
    assert found[key, "KILLED"] == 1
    assert found[alive._identity["key"], "RUNNING"] == 1
    assert found[key, "RUNNING"] == (by == "the same cell")


def as_if_by(tracking: dict[str, str], tracker: Tracker, claim: Claim) -> None:
    client = MlflowClient(tracking["uri"])
    client.set_tag(tracker._run_id, WORKER_TAG, json.dumps(asdict(claim)))


@pytest.mark.parametrize("silent", [0, 3600])
def test_the_heartbeat_tells_whether_a_worker_on_another_machine_is_gone(
    silent: float, tracking: dict[str, str], experiment: Path
) -> None:
    elsewhere = Claim("another-machine", 1, 1.0, 1.0)
    tracker = Tracker(tracking, "load", identity(key_of(0, 0)), CONFIG)
    as_if_by(tracking, tracker, elsewhere)
    close_dead_runs(tracking, experiment)
    assert statuses(tracking) == ["RUNNING"], "nothing is known of a cell that has no folder here"

    folder = cell_folder(experiment, key_of(0, 0))
    folder.mkdir(parents=True)
    claim = folder / "claim.json"
    claim.write_text(json.dumps(asdict(elsewhere)))
    then = time.time() - silent
    os.utime(claim, (then, then))
    close_dead_runs(tracking, experiment)
    assert statuses(tracking) == ["KILLED" if silent else "RUNNING"]


def test_a_process_with_the_number_of_a_dead_one_is_another(tracking: dict[str, str]) -> None:
    tracker = Tracker(tracking, "load", identity(key_of(0, 0)), CONFIG)
    parent = psutil.Process().ppid()
    as_if_by(tracking, tracker, Claim(socket.gethostname(), parent, 1.0, 1.0))
    close_dead_runs(tracking, Path("results/load"))
    assert statuses(tracking) == ["KILLED"]


def test_the_run_of_a_sweep_says_how_far_it_is(tracking: dict[str, str], experiment: Path) -> None:
    write_cell(experiment, key_of(0, 0), epochs=0)
    write_cell(experiment, key_of(0, 1), epochs=0, status="failed", reason="no roads", model="knn")
    sync(tracking, experiment)
    (cell, _) = runs_of(tracking)
    client = MlflowClient(tracking["uri"])
    parent = client.get_run(cell.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics == {"cells/done": 1, "cells/failed": 1}
    note = parent.data.tags["mlflow.note.content"]
    assert "2 cells: 1 done, 1 failed" in note
    assert "knn on small, point 25% seed 1: failed: no roads" in note

    write_cell(experiment, key_of(0, 1), epochs=0, model="knn")
    end_sweep(tracking, experiment)
    parent = client.get_run(parent.info.run_id)
    assert parent.data.metrics == {"cells/done": 2, "cells/failed": 0}
    assert "no roads" not in parent.data.tags["mlflow.note.content"]


def test_damaged_rows_are_named_and_the_others_sent(tmp_path: Path, experiment: Path) -> None:
    for number in range(3):
        write_cell(experiment, key_of(0, number), epochs=0)
    (cell_folder(experiment, key_of(0, 0)) / "row.json").write_text("{")
    (cell_folder(experiment, key_of(0, 1)) / "config.yaml").write_text("model: {}")
    sent = call(tmp_path, "track", "sync", "experiment=load")
    assert sent.returncode == 3
    assert "1 new" in sent.stdout
    assert f"{key_of(0, 0)}/row.json is damaged" in sent.stderr
    assert f"{key_of(0, 1)}/config.yaml" in sent.stderr
    assert "Traceback" not in sent.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["what to do is missing", "sync"]),
        (["send"], ["'send' is unknown", "sync"]),
        (["sync"], ["experiment=NAME is missing"]),
        (["sync", "experiment=other"], ["experiment=other has no folder", "there are: load"]),
        (["sync", "experiment=load", "url=x"], ["'url=x' is unknown", "tracking.uri"]),
        (
            ["sync", "experiment=load", "tracking.uri=http://127.0.0.1:9"],
            ["tracking.uri=http://127.0.0.1:9"],
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], words: list[str], tmp_path: Path, experiment: Path
) -> None:
    write_cell(experiment, key_of(0, 0))
    done = call(tmp_path, "track", *arguments)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("error: ")
    for word in words:
        assert word in said
