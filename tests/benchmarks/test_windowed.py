"""The windowed kind, with a method of the test's own: no other library is needed."""

import dataclasses
import subprocess
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import command, environment
from small_series import SENSORS, WINDOW, poisoned, small_setting

from benchmarks.budgets import TrainerConfig, WindowedTraining
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.masks import MaskedSeries
from benchmarks.methods import build
from benchmarks.training import NonFiniteLossError
from benchmarks.windowed import fit_windowed

TRAINER = TrainerConfig(
    max_epochs=2, batches_per_epoch=3, batch_size=None, validation_stride=5,
    eval_batch_size=16, precision="auto", accelerator="cpu", threads=1, progress=False,
)  # fmt: skip

TRAINING = WindowedTraining(batch_size=4, learning_rate=1e-3)

MODULE = """
import numpy as np


class TrainingMean:
    def fit(self, train, validation, validation_truth, **budget):
        self.mean = np.nanmean(train, axis=(0, 1))
        return {"n_params": len(self.mean), "epochs": 1, "best_epoch": 1}

    def impute(self, windows):
        return np.where(np.isnan(windows), self.mean, windows).astype(np.float32)
"""

MODEL = """
name: {name}
label: Mean of the training windows
kind: windowed
requires: {requires}
in_sample: false
deterministic: false
citation: "mine, 2026"
needs: []
time_features: none
network: {{_target_: my_windowed.TrainingMean}}
training: {{batch_size: 8, learning_rate: {rate}}}
"""


class SensorMean:
    """Fills with the mean of each sensor, and remembers what it was given."""

    def fit(
        self, train: np.ndarray, validation: np.ndarray, validation_truth: np.ndarray, **budget: Any
    ) -> dict[str, Any]:
        self.train, self.budget = train, budget
        self.validation, self.truth = validation, validation_truth
        self.mean = np.nanmean(train, axis=(0, 1))
        return {"n_params": SENSORS, "epochs": 2, "best_epoch": 1}

    def impute(self, windows: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(windows), self.mean, windows)


def test_a_method_gets_visible_windows_and_the_budget() -> None:
    setting, method = small_setting(), SensorMean()
    fit_windowed(method, TRAINING, setting, TRAINER)
    assert method.train.shape == (3 * 4, WINDOW, SENSORS)
    assert method.train.dtype == np.float32
    assert method.budget == {
        "epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.0, "patience": 20,
        "device": "cpu",
    }  # fmt: skip
    masked, starts = setting.masked, setting.split.validation[:: TRAINER.validation_stride]
    steps = np.asarray(starts)[:, None] + np.arange(WINDOW)
    np.testing.assert_array_equal(np.isnan(method.validation), ~masked.visible[steps])
    np.testing.assert_array_equal(np.isnan(method.truth), ~masked.series.observed[steps])
    visible = masked.visible[steps]
    np.testing.assert_array_equal(method.truth[visible], method.validation[visible])


def test_scores_and_facts_are_those_of_the_suite() -> None:
    setting, method = small_setting(), SensorMean()
    fitted = fit_windowed(method, TRAINING, setting, TRAINER)
    masked, test = setting.masked, setting.split.steps(setting.split.test)
    train = setting.split.steps(setting.split.train)
    readings = masked.visible_values[train]
    level = method.mean * np.nanstd(readings) + np.nanmean(readings)
    error = np.abs(level - masked.series.values[test])[masked.held_out[test]]
    assert fitted.scores.step.total().scores()["mae"] == pytest.approx(error.mean(), rel=1e-4)
    assert fitted.scores.window.total().count == sum(
        masked.held_out[start : start + WINDOW].sum() for start in setting.split.test
    )
    assert np.isnan(fitted.filled[: test.start]).all()
    assert fitted.facts["train_steps"] == 2 * 3
    assert fitted.facts["n_params"] == SENSORS
    assert fitted.facts["val_mae"] > 0


@pytest.mark.parametrize("poison", [1e6, float("nan")])
def test_held_out_values_of_training_and_test_reach_nothing(poison: float) -> None:
    setting, clean, got = small_setting(), SensorMean(), SensorMean()
    expected = fit_windowed(clean, TRAINING, setting, TRAINER)
    spoilt = poisoned(setting, poison, slice(0, setting.split.validation[0]))
    spoilt = poisoned(spoilt, poison, slice(setting.split.test[0], None))
    fitted = fit_windowed(got, TRAINING, spoilt, TRAINER)
    for name in ("train", "validation", "truth"):
        np.testing.assert_array_equal(getattr(got, name), getattr(clean, name))
    np.testing.assert_array_equal(fitted.filled, expected.filled)
    assert fitted.facts["val_mae"] == expected.facts["val_mae"]


def test_what_cannot_be_kept_is_refused() -> None:
    setting = small_setting()
    mixed = dataclasses.replace(TRAINER, precision="bf16-mixed")
    with pytest.raises(InputError, match=r"bf16-mixed.*auto, 32-true"):
        fit_windowed(SensorMean(), TRAINING, setting, mixed)
    with pytest.raises(InputError, match="patience=0"):
        WindowedTraining(batch_size=4, learning_rate=1e-3, patience=0)
    with pytest.raises(InputError, match="learning_rate=0"):
        WindowedTraining(batch_size=4, learning_rate=0.0)
    nothing = dataclasses.replace(
        setting, masked=MaskedSeries(setting.masked.series, np.zeros_like(setting.masked.drawn))
    )
    with pytest.raises(InputError, match="hides no reading"):
        fit_windowed(SensorMean(), TRAINING, nothing, TRAINER)


def test_predictions_that_are_not_finite_are_an_error() -> None:
    class Nothing(SensorMean):
        def impute(self, windows: np.ndarray) -> np.ndarray:
            return windows

    with pytest.raises(NonFiniteLossError, match="not all finite"):
        fit_windowed(Nothing(), TRAINING, small_setting(), TRAINER)


@pytest.mark.parametrize(("extra", "advice"), [(False, "absent"), (True, r"'\.\[absent\]'")])
def test_a_missing_package_is_named(
    extra: bool, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Message()
    known["Provides-Extra"] = "absent" if extra else "dev"
    monkeypatch.setattr("benchmarks.methods.metadata", lambda _: known)
    model = {
        "name": "mine", "kind": "windowed", "requires": "absent", "needs": [],
        "training": {}, "network": {"_target_": "absent.Imputer"},
    }  # fmt: skip
    with pytest.raises(NeedNotMetError, match=f"mine needs .*pip install {advice}$"):
        build(model, small_setting())


def test_it_runs_through_the_suite_and_is_skipped_without_its_package(tmp_path: Path) -> None:
    (tmp_path / "my_windowed.py").write_text(MODULE)
    folder = tmp_path / "my_conf/model"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(MODEL.format(name="own", requires="numpy", rate=0.1))
    absent = MODEL.format(name="absent", requires="no_such_package", rate=0.2)
    (folder / "absent.yaml").write_text(absent)
    arguments = ("--config-dir", "my_conf", "-m", "model=own,absent", "dataset=simulated")
    done = subprocess.run(
        command("run", *arguments, "tracking=none", "trainer=smoke"),
        cwd=tmp_path, env=environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "results/default/runs.csv").set_index("model")
    assert rows.loc["own", "status"] == "done"
    assert 0 < rows.loc["own", "step_mae"] < 20
    assert rows.loc["own", "budget"] == "1 epochs x 3 batches of 8"
    assert rows.loc["absent", "status"] == "skipped"
    assert "no_such_package" in rows.loc["absent", "reason"]
