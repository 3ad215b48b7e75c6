"""Studies in real sub-processes: totals over launches, kills, workers, files, bad input."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from commands import call, command, environment
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from studies import BUDGET, SMALL, SPACE, counted, prepare, result, trials, tune_here

FULL = """
import errno
import psan


class Full(psan.PSAN):
    def forward(self, *arguments):
        raise OSError(errno.ENOSPC, "No space left on device")
"""

FLAKY = """
import psan


class Flaky(psan.PSAN):
    calls = 0

    def forward(self, *arguments):
        Flaky.calls += 1
        if Flaky.calls <= 2:
            raise RuntimeError("a cable is loose")
        return super().forward(*arguments)
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two launches, of which the second asks for more trials in all."""
    folder = prepare(tmp_path_factory.mktemp("study"))
    for n_trials in (4, 18):
        done = call(folder, "tune", *SMALL, "pruner=median", f"n_trials={n_trials}")
        assert done.returncode == 0, done.stderr
        assert len(trials(folder)) == n_trials
    return folder


def test_the_first_trial_is_the_default_and_some_are_given_up(study: Path) -> None:
    table = trials(study)
    assert list(table["origin"]) == ["default"] + ["sampler"] * 17
    assert table.loc[0, "state"] == "done"
    assert table.loc[0, "model.network.d_model"] == 8
    assert table.loc[0, "model.training.whiten"] == "[0.2, 0.5, 0.8]"
    assert set(table["state"]) == {"done", "pruned"}
    assert (table["epochs"][table["state"] == "done"] == 4).all()
    assert (table["epochs"][table["state"] == "pruned"] < 4).all()
    width = table["model.network.n_heads"] * table["width_per_head"]
    assert (table["model.network.d_model"] == width).all()


def test_a_launch_with_nothing_left_to_run_runs_nothing(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (study / "results/tuning/psan_simulated/trials.csv").read_bytes()
    assert tune_here(study, monkeypatch, *SMALL, "pruner=median", "n_trials=18") == 0
    assert (study / "results/tuning/psan_simulated/trials.csv").read_bytes() == before


def test_each_trial_is_a_run_under_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    client = MlflowClient("sqlite:///mlflow.db")
    experiment = client.get_experiment_by_name("psan/tuning/psan_simulated")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    table = trials(study).set_index("key")
    assert {run.data.tags["psan.run_key"] for run in children} == set(table.index)
    for run in children:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        row = table.loc[run.data.tags["psan.run_key"]]
        assert run.data.tags["psan.status"] == row["state"]
        assert run.data.metrics["val_mae"] == pytest.approx(row["val_mae"])
        assert int(run.data.params["n_prototypes"]) == row["model.network.n_prototypes"]
        curve = client.get_metric_history(run.info.run_id, "history/val_mae")
        assert len(curve) == row["epochs"]
        assert not any(name.startswith(("window_", "step_")) for name in run.data.metrics)


def test_the_best_values_are_a_model_that_runs(study: Path) -> None:
    text = (study / "conf/model/tuned/psan_simulated.yaml").read_text()
    table = trials(study)
    best = table[table["state"] == "done"].sort_values("val_mae").iloc[0]
    assert "# study: psan_simulated\n" in text
    assert f"Validation MAE {best['val_mae']:.4g} mph" in text
    assert f"is {table.loc[0, 'val_mae']:.4g}" in text
    where = ("--config-dir=conf", "model=tuned/psan_simulated", "model.network.n_layers=1")
    done = call(study, "run", *where, "dataset=simulated", *BUDGET, "tracking=none")
    assert done.returncode == 0, done.stderr
    row = pd.read_csv(study / "results/default/runs.csv").iloc[0]
    assert row["model"] == "tuned_psan_simulated"
    assert row["label"] == "PSAN, tuned on simulated"
    assert row["val_mae"] == best["val_mae"]
    config = yaml.safe_load((study / f"results/default/cells/{row['key']}/config.yaml").read_text())
    assert config["model"]["network"]["n_prototypes"] == best["model.network.n_prototypes"]
    assert config["model"]["network"]["d_model"] == best["model.network.d_model"]
    assert config["model"]["training"]["schedule"] == "cosine"  # of the method's own file


def test_the_report_is_made_from_its_files_alone(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results/tuning/psan_simulated"
    folder.mkdir(parents=True)
    original = study / "results/tuning/psan_simulated"
    for name in ("study.yaml", "trials.csv", "epochs.csv"):
        shutil.copy(original / name, folder)
    done = call(tmp_path, "tune", "report", "study=psan_simulated")
    assert done.returncode == 0, done.stderr
    made = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    figures = {path.stem for path in made if path.suffix == ".png"}
    assert {"history", "learning_curves", "contour", "parallel", "importance"} == figures
    for path in made:
        assert (folder / path).read_bytes() == (original / path).read_bytes(), path
    text = (folder / "study.md").read_text()
    assert "18 trials" in text
    assert "4 epochs x 3 batches of 2" in text
    assert "**No test window was predicted**" in text


def stop_when(
    folder: Path, arguments: tuple[str, ...], epochs: int, how: signal.Signals = signal.SIGKILL
) -> tuple[int, str]:
    """Starts a study and stops it, and nobody else, when as many epochs are done in all.

    Returns:
        Its exit code and what it said.
    """
    process = subprocess.Popen(
        command("tune", *arguments), cwd=folder, env=environment(), stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        lines = [
            len(path.read_text().splitlines()) - 1
            for path in folder.glob("results/tuning/*/cells/*/history.csv")
        ]
        if sum(lines) >= epochs:
            break
        time.sleep(0.01)
    os.kill(process.pid, how)
    said = process.communicate()[1]
    return process.returncode, said


def test_a_killed_study_goes_on_and_ends_as_an_undisturbed_one(study: Path, tmp_path: Path) -> None:
    given = (*SMALL, "tracking=none", "pruner=median", "n_trials=18")
    assert stop_when(prepare(tmp_path), given, epochs=11)[0] == -signal.SIGKILL
    done = call(tmp_path, "tune", *given)
    assert done.returncode == 0, done.stderr
    assert "its process died; it is queued again" in done.stderr
    table = trials(tmp_path)
    (dead,) = table[table["reason"] == "its process died"].to_dict("records")
    assert dead["state"] == "failed"
    assert dead["trial"] in set(table["repeats"])
    pd.testing.assert_frame_equal(result(counted(tmp_path)), result(counted(study)))
    columns = ["epoch", "loss", "val_mae", "learning_rate"]
    for path in study.glob("results/tuning/*/cells/*/history.csv"):
        other = pd.read_csv(tmp_path / path.relative_to(study))
        pd.testing.assert_frame_equal(other[columns], pd.read_csv(path)[columns], obj=str(path))


def test_an_interrupted_study_says_how_to_go_on(tmp_path: Path) -> None:
    given = (*SMALL, "tracking=none", "n_trials=50", "pruner=none")
    code, said = stop_when(prepare(tmp_path), given, epochs=5, how=signal.SIGINT)
    assert code == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_two_workers_share_a_study_and_die_with_it(tmp_path: Path) -> None:
    given = (*SMALL, "tracking=none", "n_workers=2", "n_trials=5", "trainer.max_epochs=8")
    assert stop_when(prepare(tmp_path), given, epochs=4)[0] == -signal.SIGKILL
    time.sleep(2)
    journal = tmp_path / "results/tuning/psan_simulated/journal.log"
    size = journal.stat().st_size
    time.sleep(2)
    assert journal.stat().st_size == size  # the workers have died with the launch
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "half a li')  # as a power cut leaves it
    done = call(tmp_path, "tune", *given)
    assert done.returncode == 0, done.stderr
    assert "half-written" in done.stderr
    table = counted(tmp_path)
    assert len(table) == 5
    assert set(table["state"]) <= {"done", "pruned"}
    assert table["key"].is_unique
    assert (table["origin"] == "default").sum() == 1


def test_a_database_holds_a_study_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*SMALL, "tracking=none", "study=mine", "pruner=none", "n_trials=2")
    assert tune_here(prepare(tmp_path), monkeypatch, *given, "storage=sqlite:///study.db") == 0
    assert not (tmp_path / "results/tuning/mine/journal.log").exists()
    assert list(trials(tmp_path, "mine")["state"]) == ["done"] * 2
    assert tune_here(tmp_path, monkeypatch, *given) == 2  # without its storage
    printed = capsys.readouterr().err
    assert "results/tuning/mine has trials that the study's storage does not know" in printed
    assert len(trials(tmp_path, "mine")) == 2


def test_another_budget_or_space_is_another_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (*SMALL, "tracking=none", "n_trials=1")
    assert tune_here(prepare(tmp_path), monkeypatch, *given) == 0
    assert tune_here(tmp_path, monkeypatch, *given, "trainer.max_epochs=5", "mask.rate=0.5") == 2
    printed = capsys.readouterr().err
    assert "study=psan_simulated was begun with other values" in printed
    assert "trainer.max_epochs: 4 → 5" in printed
    assert "mask.rate: 0.25 → 0.5" in printed
    assert "seed" not in printed
    (tmp_path / "conf/tune/psan.yaml").write_text(SPACE.replace("[2, 16]", "[2, 32]"))
    assert tune_here(tmp_path, monkeypatch, *given) == 2
    assert "space.model.network.n_prototypes.int: [2, 16] → [2, 32]" in capsys.readouterr().err
    assert len(trials(tmp_path)) == 1


def test_values_of_another_study_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = (*SMALL, "tracking=none", "n_trials=1")
    assert tune_here(prepare(tmp_path), monkeypatch, *given) == 0
    path = tmp_path / "conf/model/tuned/psan_simulated.yaml"
    before = path.read_text()
    assert tune_here(tmp_path, monkeypatch, *given, "study=other") == 0
    assert path.read_text() == before
    assert "is of another study and stays as it is" in caplog.text
    assert tune_here(tmp_path, monkeypatch, *given, "study=other", "write_to=other") == 0
    other = tmp_path / "other/model/tuned/psan_simulated.yaml"
    assert "# study: other\n" in other.read_text()


def test_a_trial_without_a_finite_loss_is_recorded_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = "model.training.learning_rate: {choice: [1.0e-3, 1.0e+30]}\n"
    given = (*SMALL, "tracking=none", "n_trials=6")
    assert tune_here(prepare(tmp_path, space), monkeypatch, *given) == 0
    table = trials(tmp_path)
    assert len(table) == 6
    assert set(table["state"]) == {"done", "failed"}
    failed = table[table["state"] == "failed"]
    assert failed["reason"].str.contains("the training loss became|the validation error").all()
    report = (tmp_path / "results/tuning/psan_simulated/study.md").read_text()
    assert f"{len(failed)} failed" in report
    assert f"- trial {failed['trial'].iloc[0]}: the" in report


def test_a_study_where_all_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    space = "model.training.learning_rate: {choice: [1.0e+30, 1.0e+31]}\n"
    given = (*SMALL, "tracking=none", "n_trials=2")
    assert tune_here(prepare(tmp_path, space), monkeypatch, *given) == 3
    assert "no trial was completed" in caplog.text
    assert "the default configuration is outside the search space" in caplog.text
    assert not (tmp_path / "conf/model").exists()


def test_an_error_of_no_known_kind_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method of one's own that fails by itself, twice, then works."""
    (tmp_path / "flaky.py").write_text(FLAKY)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("model.network._target_=flaky.Flaky", "pruner=none", "n_trials=2")
    given = (*SMALL, "tracking=none", *own)
    assert tune_here(prepare(tmp_path), monkeypatch, *given) == 0
    table = trials(tmp_path)
    assert list(table["state"]) == ["failed", "failed", "done"]
    assert list(table["repeats"].fillna(-1)) == [-1, 0, -1]
    assert table["reason"][:2].str.contains("a cable is loose").all()


def test_a_second_objective_gives_a_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (*SMALL, "tracking=none", "n_trials=8", "also_minimise=parameters")
    assert tune_here(prepare(tmp_path), monkeypatch, *given) == 0
    table = trials(tmp_path)
    assert set(table["state"]) == {"done"}  # no trial is given up
    text = (tmp_path / "results/tuning/psan_simulated/study.md").read_text()
    front = text.partition("## Pareto front")[2].partition("##")[0]
    shown = {int(line.split("|")[1].split()[0]) for line in front.splitlines()[4:] if line}
    better = {
        row.trial
        for row in table.itertuples()
        if not ((table["val_mae"] < row.val_mae) & (table["n_params"] <= row.n_params)).any()
        and not ((table["val_mae"] <= row.val_mae) & (table["n_params"] < row.n_params)).any()
    }
    assert shown == better
    assert (tmp_path / "results/tuning/psan_simulated/figures/pareto.png").exists()


BAD = {
    "unknown method": (["model=oracle"], ["model=oracle", "choose from", "psan", "grin"]),
    "closed form": (["model=linear"], ["model=linear", "no search space", "psan"]),
    "no method": (["dataset=simulated"], ["model=NAME is missing"]),
    "unknown study": (["study=everything"], ["study=everything", "model=NAME", "psan_pems08_25d"]),
    "two methods": (["model=psan,grin"], ["psan,grin", "one method"]),
    "no trials": (["model=psan", "n_trials=0"], ["n_trials=0", "above 0"]),
    "half a worker": (["model=psan", "n_workers=0.5"], ["n_workers=0.5", "above 0"]),
    "unknown pruner": (["model=psan", "pruner=axe"], ["pruner=axe", "hyperband, median, none"]),
    "unknown objective": (
        ["model=psan", "also_minimise=carbon"],
        ["also_minimise=carbon", "seconds, parameters"],
    ),
    "pruner of two objectives": (
        ["model=psan", "also_minimise=seconds", "pruner=median"],
        ["pruner=median", "also_minimise=seconds", "pruner=none"],
    ),
    "storage is no URL": (["model=psan", "storage=study.db"], ["storage=study.db", "no URL"]),
    "unknown database": (
        ["model=psan", "storage=oracular://x/y", *BUDGET],
        ["storage=oracular://x/y cannot be used"],
    ),
    "no server": (
        ["model=psan", "storage=mysql+nothing://localhost/x", *BUDGET],
        ["storage=mysql+nothing://localhost/x cannot be used"],
    ),
    "a sweep": (["-m", "model=psan"], ["'-m' is unknown"]),
    "a name": (["model=psan", "name=mine"], ["name=mine", "study="]),
    "a timeout": (["model=psan", "timeout=3"], ["timeout=3", "benchmarks.run"]),
    "unknown option": (["model=psan", "model.network.n_layer=2"], ["n_layer"]),
    "unknown dataset": (["model=psan", "dataset=metr_sf"], ["metr_sf", "simulated"]),
    "absent data": (["model=psan", "dataset=metr_la", "data_root=nowhere"], ["benchmarks.data"]),
    "study in another folder": (["model=psan", "study=../x"], ["study=../x", "folder"]),
    "no configuration": (["model=psan", "--config-dir=nowhere"], ["nowhere is no folder"]),
    "no road graph": (["model=grin", "dataset=lone", "--config-dir=own"], ["no road distances"]),
    "unwritable results": (["model=psan", "results_dir=file/x"], ["results_dir=file/x"]),
    "unwritable values": (["model=psan", "write_to=file/x"], ["write_to=file/x"]),
    "report of nothing": (["report", "study=nope"], ["study=nope", "there are: none"]),
    "report of what": (["report", "model=psan"], ["'model=psan' is unknown", "study"]),
}

LONE = """
name: lone
title: A series without a graph
family: lone
unit: mph
mask_seed: 1
graph: {kind: gaussian, threshold: 0.1}
loader: {_target_: lone.load}
"""

LONE_MODULE = """
from dataclasses import replace
from benchmarks.data import simulated
def load(name, data_root):
    return replace(simulated.load("simulated", data_root), name=name, distances=None)
"""


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_message(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, named = BAD[case]
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "own/dataset").mkdir(parents=True)
    (tmp_path / "own/dataset/lone.yaml").write_text(LONE)
    (tmp_path / "lone.py").write_text(LONE_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert tune_here(tmp_path, monkeypatch, *arguments) == 2
    printed = capsys.readouterr().err
    for text in named:
        assert text in printed
    assert len(printed.splitlines()) < 40
    assert not list(tmp_path.glob("results/tuning/*/trials.csv"))


def test_a_full_disk_is_no_fault_of_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full.py").write_text(FULL)
    monkeypatch.syspath_prepend(tmp_path)
    given = (*SMALL, "tracking=none", "model.network._target_=full.Full", "n_trials=1")
    assert tune_here(prepare(tmp_path), monkeypatch, *given) == 2
    assert "No space left on device" in capsys.readouterr().err
    (trial,) = optuna.load_study(
        study_name="psan_simulated",
        storage=JournalStorage(JournalFileBackend("results/tuning/psan_simulated/journal.log")),
    ).get_trials()
    assert trial.state == TrialState.RUNNING  # the next launch takes it up
