"""Small cells for the tests of tracking; as a command, processes that track some of them.

`python tests/tracked_cells.py URI RUNS EPOCHS FOLDER...` starts a process in each folder, which are
the workers 0, 1, …; all at the same moment begin to track RUNS cells of EPOCHS epochs, and send
each epoch at once.
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.rows import cell_folder
from benchmarks.tracking import Tracker, live

CONFIG: dict[str, Any] = {
    "model": {
        "name": "mean",
        "network": {"_target_": "baselines.mean.Mean", "width": [1, 2]},
        "training": {"learning_rate": 1e-05},
    },
    "dataset": {"name": "small"},
    "mask": {"name": "point", "rate": 0.25},
    "trainer": {"max_epochs": 3, "batches_per_epoch": 1},
    **{"protocol": "grin", "window": 24, "seed": 1, "mask_seed": 1},
}
STAMP = "2026-01-02T03:04:05+00:00"


def identity(key: str) -> dict[str, Any]:
    return {
        "key": key, "model": "mean", "label": "Mean", "dataset": "small", "pattern": "point",
        "rate": 0.25, "seed": 1, "mask_seed": 1, "dataset_fingerprint": "1" * 16,
        "budget": "3 epochs",
    }  # fmt: skip


def line(epoch: int, value: float = 10.0) -> dict[str, float]:
    """An epoch's line of the history."""
    return {
        "epoch": float(epoch), "loss": 1 / epoch, "val_mae": float(value - epoch),
        "learning_rate": 0.1, "seconds": 2.0 * epoch,
    }  # fmt: skip


def row(key: str, **other: Any) -> dict[str, Any]:
    ended = {"status": "done", "reason": "", "git_commit": "abc", "finished": STAMP}
    return identity(key) | ended | {"window_mae": 2.0, "step_mae": 3.0} | other


def write_cell(experiment: Path, key: str, epochs: int = 3, **other: Any) -> dict[str, Any]:
    """What a run leaves in the cell's folder; returns the row."""
    folder = cell_folder(experiment, key)
    folder.mkdir(parents=True, exist_ok=True)
    written = row(key, **other)
    (folder / "row.json").write_text(json.dumps(written))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "scores.csv").write_text("by,group\n")
    lines = [line(epoch) for epoch in range(1, epochs + 1)]
    if lines:
        table = [",".join(lines[0]), *(",".join(map(str, one.values())) for one in lines)]
        (folder / "history.csv").write_text("\n".join(table) + "\n")
    return written


def key_of(worker: int, run: int) -> str:
    return f"{worker:08d}{run:08d}"


def work(uri: str, worker: int, runs: int, epochs: int) -> None:
    """Tracks cells one after the other."""
    for run in range(runs):
        key = key_of(worker, run)
        tracker = Tracker({"kind": "mlflow", "uri": uri}, "load", identity(key), CONFIG)
        for epoch in range(1, epochs + 1):
            tracker.epoch(line(epoch, value=1000 * worker + 100 * run))
        tracker.finish(row(key), Path("nowhere"))


def runs_of(tracking: Mapping[str, str], name: str = "load") -> list[Run]:
    """Runs of cells, the oldest first."""
    client = MlflowClient(tracking["uri"])
    experiment = client.get_experiment_by_name(f"psan/{name}")
    if experiment is None:
        return []
    ids = [experiment.experiment_id]
    order = ["attributes.start_time"]
    return [*client.search_runs(ids, "tags.`psan.run_key` != ''", order_by=order)]


def content(tracking: Mapping[str, str], run: Run) -> dict[str, Any]:
    """All that a run says, but for its id, its owner and times."""
    client = MlflowClient(tracking["uri"])
    experiment = client.get_experiment(run.info.experiment_id)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    tags = {k: v for k, v in run.data.tags.items() if k != "mlflow.parentRunId"}
    files = client.list_artifacts(run.info.run_id)
    return {
        "experiment": experiment.name,
        "parent": (parent.info.run_name, parent.info.status),
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": tags,
        "artifacts": {file.path: file.file_size for file in files},
        "metrics": {
            name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        },
    }


def rush(uri: str, runs: int, epochs: int, folders: list[str]) -> int:
    """Starts the processes and returns how many of them failed."""
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  once, not in each of them

    live.EPOCH_SECONDS = 0
    context = multiprocessing.get_context("fork")
    together = context.Barrier(len(folders))

    def one(worker: int, folder: str) -> None:
        os.chdir(folder)
        together.wait()
        work(uri, worker, runs, epochs)

    processes = [context.Process(target=one, args=each) for each in enumerate(folders)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(process.exitcode != 0 for process in processes)


if __name__ == "__main__":
    store, cells, lines, *places = sys.argv[1:]
    sys.exit(rush(store, int(cells), int(lines), places))
