"""The MLflow mirror against real stores, and without one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import call
from mlflow import MlflowClient

from benchmarks.errors import InputError
from benchmarks.tracking import PARENT_TAG, Tracker, connect

SMALL = ("dataset=simulated", "trainer=smoke", "trainer.batch_size=2", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store after a sweep of two methods, of which one is launched twice."""
    folder = tmp_path_factory.mktemp("store")
    for models in ("psan,linear", "linear"):
        done = call(folder, "run", "-m", f"model={models}", *SMALL)
        assert done.returncode == 0, done.stderr
    return folder


def test_a_sweep_is_a_parent_with_a_child_for_each_cell(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)
    client = connect({"kind": "mlflow", "uri": "sqlite:///mlflow.db"})
    assert client is not None
    experiment = client.get_experiment_by_name("psan/default")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if PARENT_TAG in run.data.tags]
    assert len(parents) == 1
    children = {run.data.params["model"]: run for run in runs if run not in parents}
    assert set(children) == {"psan", "linear"}
    assert len(runs) == 3

    for run in children.values():
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        for tag in ("run_key", "dataset_fingerprint", "mask_hash", "git_commit", "status"):
            assert f"psan.{tag}" in run.data.tags
        assert run.data.metrics["step_mae"] > 0
        artifacts = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"config.yaml", "example.png"} <= artifacts
    psan = children["psan"]
    history = client.get_metric_history(psan.info.run_id, "history/val_mae")
    assert [metric.step for metric in history] == [1, 2]
    assert psan.data.params["n_heads"] == "4"


def test_without_a_server_the_run_completes_and_says_so(tmp_path: Path) -> None:
    done = call(tmp_path, "run", "model=mean", "tracking.uri=http://127.0.0.1:9", *SMALL[:2])
    assert done.returncode == 0, done.stderr
    assert "not tracked" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "results/default/runs.csv").exists()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"'wandb'.*mlflow, none"):
        connect({"kind": "wandb", "uri": ""})


IDENTITY = {
    "key": "0" * 16, "model": "mean", "dataset": "small", "pattern": "point", "rate": 0.25,
    "dataset_fingerprint": "1" * 16, "budget": "3 epochs",
}  # fmt: skip
CONFIG = {
    "model": {"name": "mean", "network": {"_target_": "baselines.mean.Mean"}},
    "dataset": {"name": "small"},
    "mask": {"name": "point", "rate": 0.25},
    "trainer": {"max_epochs": 3, "batches_per_epoch": 1},
    **{"protocol": "grin", "window": 24, "seed": 1, "mask_seed": 1},
}
ROW = {"status": "done", "reason": "", "git_commit": "abc", "window_mae": 2.0, "step_mae": 3.0}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of every client's methods that reach the store."""
    counted: Counter[str] = Counter()

    def count(name: str) -> None:
        method = getattr(MlflowClient, name)

        def call_and_count(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return method(self, *arguments, **options)

        monkeypatch.setattr(MlflowClient, name, call_and_count)

    for name in ("search_experiments", "get_experiment_by_name", "search_runs", "log_batch"):
        count(name)
    return counted


def track(uri: str, folder: Path) -> Tracker:
    """A cell of three epochs."""
    tracker = Tracker({"kind": "mlflow", "uri": uri}, "small", IDENTITY, CONFIG)
    for epoch in (1.0, 2.0, 3.0):
        tracker.epoch({"epoch": epoch, "val_mae": 10.0 - epoch, "loss": 1.0 / epoch})
    tracker.finish(ROW, folder)
    return tracker


def test_cells_of_a_process_share_a_client_and_epochs_go_together(
    calls: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow puts its artifacts there
    monkeypatch.setattr("benchmarks.tracking.EPOCH_SECONDS", 3600)
    uri = f"sqlite:///{tmp_path}/shared.db"
    for _ in range(3):
        track(uri, tmp_path)
    assert calls == {
        "search_experiments": 1,
        "get_experiment_by_name": 1,
        "search_runs": 1,
        "log_batch": 6,  # the parameters, and all metrics
    }
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("psan/small")
    runs = client.search_runs([experiment.experiment_id], "tags.`psan.budget` = '3 epochs'")
    assert len(runs) == 3
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["step_mae"] == 3.0
        history = client.get_metric_history(run.info.run_id, "history/val_mae")
        assert [(metric.step, metric.value) for metric in history] == [(1, 9), (2, 8), (3, 7)]


def test_a_training_that_lasts_shows_its_epochs(
    calls: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.tracking.EPOCH_SECONDS", 0)
    track(f"sqlite:///{tmp_path}/slow.db", tmp_path)
    assert calls["log_batch"] == 5


def test_after_a_failure_the_next_cell_asks_for_the_store_anew(
    calls: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/failing.db"
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "create_run", unreachable)
        track(uri, tmp_path)
    assert "the run of mean on small" in caplog.text
    assert "gone" in caplog.text
    track(uri, tmp_path)
    assert calls["search_experiments"] == 2
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("psan/small")
    assert len(client.search_runs([experiment.experiment_id], "tags.`psan.budget` != ''")) == 1
