"""The MLflow mirror against real stores, and without one."""

from pathlib import Path

import pytest
from commands import call

from benchmarks.errors import InputError
from benchmarks.tracking import PARENT_TAG, connect

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
