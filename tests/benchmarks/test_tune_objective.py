"""What a study is judged by: the validation windows, whatever hides in the test."""

from pathlib import Path

import pandas as pd
import pytest
from studies import BUDGET, SMALL, prepare, trials, tune_here

POISONED = """
from dataclasses import replace
from benchmarks.data import simulated
from benchmarks.masks import point
from benchmarks.windows import split_windows


def load(name, data_root, *, poison, part):
    series = simulated.load("simulated", data_root)
    hidden = point(series.observed, 7, 0.25) & series.observed
    split = split_windows(len(series.time), 24)
    steps = split.steps(getattr(split, part))
    values = series.values.copy()
    if poison is not None:
        values[steps][hidden[steps]] = poison
    return replace(series, name=name, values=values)
"""

DATASET = """
name: {name}
title: Hidden readings replaced
family: {name}
unit: mph
mask_seed: 7
graph: {{kind: gaussian, threshold: 0.1, force_symmetric: false}}
loader: {{_target_: poisoned.load, poison: {poison}, part: {part}}}
"""

WINDOWED = """
import numpy as np


class Level:
    def __init__(self, seed, weight):
        self.weight = weight

    def fit(self, train, validation, validation_truth, **budget):
        self.level = self.weight * float(np.nanmean(train))
        return {"n_params": 1, "epochs": budget["epochs"], "best_epoch": 1}

    def impute(self, windows):
        return np.where(np.isnan(windows), self.level, windows)
"""

MODEL = """
{name: level, label: Level, kind: windowed, in_sample: false, deterministic: false, citation: none,
 needs: [seed], time_features: none, network: {_target_: windowed_method.Level, weight: 1.0},
 training: {batch_size: 4, learning_rate: 0.1}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with datasets whose hidden readings are as they are, or a million."""
    prepare(tmp_path)
    (tmp_path / "poisoned.py").write_text(POISONED)
    (tmp_path / "conf/dataset").mkdir()
    for name, poison, part in (
        ("clean", "null", "test"), ("test", "1.0e+6", "test"), ("train", "1.0e+6", "train"),
        ("validation", "1.0e+6", "validation"),
    ):  # fmt: skip
        text = DATASET.format(name=name, poison=poison, part=part)
        (tmp_path / f"conf/dataset/{name}.yaml").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def tuned(folder: Path, monkeypatch: pytest.MonkeyPatch, dataset: str) -> pd.DataFrame:
    """The trials of a study on one of the datasets, without their costs."""
    given = [word for word in SMALL if not word.startswith("dataset=")]
    (folder / dataset).mkdir()
    # one name for all: Hyperband's brackets depend on it
    where = (f"dataset={dataset}", f"results_dir={dataset}/results", "study=same")
    assert tune_here(folder, monkeypatch, *given, *where, "tracking=none", "n_trials=6") == 0
    table = trials(folder / dataset, "same")
    return table.drop(columns=["key", "train_seconds", "seconds_per_step"])


def test_hidden_values_of_test_and_training_change_no_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = tuned(folder, monkeypatch, "clean")
    for part in ("test", "train"):
        pd.testing.assert_frame_equal(tuned(folder, monkeypatch, part), clean, obj=part)
    chosen = [
        (folder / f"conf/model/tuned/psan_{name}.yaml").read_text().partition("network:")[2]
        for name in ("clean", "test", "train")
    ]
    assert chosen[0] == chosen[1] == chosen[2] != ""
    other = tuned(folder, monkeypatch, "validation")
    assert (other["val_mae"] > 1e5).all()  # the poison would have shown


def test_a_method_that_trains_itself_is_tuned_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "windowed_method.py").write_text(WINDOWED)
    (folder / "conf/model").mkdir()
    (folder / "conf/model/level.yaml").write_text(MODEL)
    (folder / "conf/tune/level.yaml").write_text("model.network.weight: {float: [0.0, 2.0]}\n")
    given = ("--config-dir=conf", "model=level", *BUDGET, "tracking=none", "n_trials=6")
    assert tune_here(folder, monkeypatch, *given, "dataset=clean") == 0
    assert tune_here(folder, monkeypatch, *given, "dataset=test") == 0
    clean, test = trials(folder, "level_clean"), trials(folder, "level_test")
    assert set(clean["state"]) == {"done"}
    assert list(clean["val_mae"]) == list(test["val_mae"])
    assert clean["val_mae"].nunique() == 6
