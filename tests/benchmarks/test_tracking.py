"""The MLflow mirror against real stores, and without one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import call
from mlflow import MlflowClient
from tracked_cells import CONFIG, content, identity, key_of, line, row, runs_of

from benchmarks.errors import InputError
from benchmarks.tracking import Tracker, connect

SMALL = ("dataset=simulated", "trainer=smoke", "trainer.batch_size=2", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh SQLite store after a training, a closed form and a failure; one is launched twice."""
    folder = tmp_path_factory.mktemp("store")
    for models in ("psan,linear,knn", "linear"):
        done = call(folder, "run", "-m", f"model={models}", *SMALL, "dataset.graph.kind=wrong")
        assert done.returncode == (3 if "knn" in models else 0), done.stderr
    return folder


def stored(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """All that the runs of a store say, by method."""
    tracking = {"uri": f"sqlite:///{folder}/{name}.db"}
    runs = runs_of(tracking, "default")
    assert len(runs) == 3
    return {run.data.params["model"]: content(tracking, run) for run in runs}


def test_a_sweep_is_a_parent_with_a_child_for_each_cell(store: Path) -> None:
    runs = stored(store, "mlflow")
    assert {name: run["status"] for name, run in runs.items()} == {
        "psan": "FINISHED", "linear": "FINISHED", "knn": "FAILED"
    }  # fmt: skip
    for run in runs.values():
        assert run["parent"] == ("sweep default", "FINISHED")
        for tag in ("run_key", "dataset_fingerprint", "git_commit", "status", "finished"):
            assert f"psan.{tag}" in run["tags"]
        assert {"row.json", "config.yaml"} <= set(run["artifacts"])
    psan = runs["psan"]
    assert psan["metrics"]["step_mae"][0][1] > 0
    assert [step for step, _ in psan["metrics"]["history/val_mae"]] == [1, 2]
    assert psan["params"]["n_heads"] == "4"
    assert "example.png" in psan["artifacts"]
    assert "wrong" in runs["knn"]["tags"]["psan.reason"]


def test_replayed_runs_are_those_that_were_tracked(store: Path) -> None:
    """Twice replayed into another store, they are there once."""
    command = ("track", "sync", "experiment=default", "tracking.uri=sqlite:///replayed.db")
    for said in ("3 new, 0 already there", "0 new, 3 already there"):
        sent = call(store, *command)
        assert sent.returncode == 0, sent.stderr
        assert said in sent.stdout
    assert stored(store, "replayed") == stored(store, "mlflow")


def test_without_a_server_the_run_completes_and_says_so(tmp_path: Path) -> None:
    done = call(tmp_path, "run", "model=mean", "tracking.uri=http://127.0.0.1:9", *SMALL[:2])
    assert done.returncode == 0, done.stderr
    assert "not tracked" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "results/default/runs.csv").exists()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"'wandb'.*mlflow, none"):
        connect({"kind": "wandb", "uri": ""})


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


def track(uri: str, folder: Path, key: str = key_of(0, 0)) -> Tracker:
    """A cell of three epochs."""
    tracker = Tracker({"kind": "mlflow", "uri": uri}, "load", identity(key), CONFIG)
    for epoch in (1, 2, 3):
        tracker.epoch(line(epoch))
    tracker.finish(row(key), folder)
    return tracker


def test_cells_of_a_process_share_a_client_and_epochs_go_together(
    calls: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow puts its artifacts there
    monkeypatch.setattr("benchmarks.tracking.live.EPOCH_SECONDS", 3600)
    uri = f"sqlite:///{tmp_path}/shared.db"
    for number in range(3):
        track(uri, tmp_path, key_of(0, number))
    assert calls == {
        "search_experiments": 1,
        "get_experiment_by_name": 1,
        "search_runs": 3 + 3,  # the parent twice, dead runs; and runs of each key
        "log_batch": 9,  # the parameters, all epochs, the scores
    }
    client = MlflowClient(uri)
    runs = runs_of({"uri": uri})
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
    monkeypatch.setattr("benchmarks.tracking.live.EPOCH_SECONDS", 0)
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
    assert len(runs_of({"uri": uri})) == 1
