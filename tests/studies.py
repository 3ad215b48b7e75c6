"""Small studies for tests: their command lines, and what they leave behind."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.tune.__main__ import main

MODEL = (
    "model=psan", "dataset=simulated", "model.network.d_model=8", "model.network.n_heads=2",
    "model.network.n_layers=1",
)  # fmt: skip
BUDGET = (
    "trainer=smoke", "trainer.max_epochs=4", "trainer.batches_per_epoch=3", "trainer.batch_size=2",
    "trainer.accelerator=cpu", "trainer.threads=1",
)  # fmt: skip
SMALL = ("--config-dir=conf", *MODEL, *BUDGET)

SPACE = """
model.network.n_prototypes: {int: [2, 16], log: true}
model.network.n_heads: {choice: [1, 2]}
width_per_head: {choice: [4, 8]}
model.network.d_model: {product: [model.network.n_heads, width_per_head]}
model.training.learning_rate: {float: [1.0e-5, 1.0e-1], log: true}
model.training.whiten: {choice: [[0.2, 0.5, 0.8], [0.5]]}
contour: [model.network.n_prototypes, model.network.d_model]
"""


def prepare(folder: Path, space: str = SPACE) -> Path:
    """A folder with a search space of small networks; `conf` is where the best values go."""
    (folder / "conf/tune").mkdir(parents=True)
    (folder / "conf/tune/psan.yaml").write_text(space)
    return folder


def trials(folder: Path, study: str = "psan_simulated") -> pd.DataFrame:
    return pd.read_csv(folder / f"results/tuning/{study}/trials.csv")


def counted(folder: Path, study: str = "psan_simulated") -> pd.DataFrame:
    """The trials that count, in order: without those that were run again."""
    table = trials(folder, study)
    return table[~table["trial"].isin(table["repeats"].dropna())].reset_index(drop=True)


def result(table: pd.DataFrame) -> pd.DataFrame:
    """What a trial was and what it found, but not its number and its cost."""
    names = [name for name in table.columns if name.startswith(("model.", "width"))]
    return table[["state", "origin", "val_mae", "epochs", *names]].astype({"epochs": float})


def tune_here(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command in this process, which saves its seconds of imports."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(logging.getLogger("benchmarks"), "handlers", [])
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return int(ended.value.code or 0)
