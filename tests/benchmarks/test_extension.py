"""The README's recipes: a method, a dataset and a mask of one's own, with no line of the suite."""

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from commands import command, environment

README = Path(__file__).parents[2] / "README.md"

DATASET_MODULE = """
import numpy as np
import pandas as pd
from benchmarks.data.series import Series


def load(name, data_root, *, unit, steps):
    values = np.random.default_rng(0).normal(50, 5, (steps, 3)).astype(np.float32)
    return Series(
        name=name, values=values, observed=np.ones(values.shape, dtype=bool),
        time=pd.date_range("2024-01-01", periods=steps, freq="5min"), sensors=("a", "b", "c"),
        unit=unit, distances=None, coordinates=None,
    )
"""

DATASET = """
name: mine
title: "Three sensors of mine"
family: mine
unit: mph
mask_seed: 1
graph: {kind: gaussian, threshold: 0.1}
loader: {_target_: my_data.load, unit: mph, steps: 600}
"""


def recipe(what: str, language: str) -> str:
    """The README's code block in `language` about a `what` of one's own."""
    text = README.read_text().partition(f"**A {what} of your own**")[2]
    block = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert block
    return block.group(1)


def test_the_recipes_run(tmp_path: Path) -> None:
    (tmp_path / "my_methods.py").write_text(recipe("method", "python"))
    (tmp_path / "my_masks.py").write_text(recipe("pattern", "python"))
    (tmp_path / "my_data.py").write_text(DATASET_MODULE)
    for group, name, content in (
        ("model", "median", recipe("method", "yaml")),
        ("mask", "every_nth", recipe("pattern", "yaml")),
        ("dataset", "mine", DATASET),
    ):
        folder = tmp_path / "my_conf" / group
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text(content)
    arguments = ("--config-dir", "my_conf", "-m", "model=median,grin", "dataset=mine")
    arguments += ("mask=point,every_nth",)
    done = subprocess.run(
        command("run", *arguments, "tracking=none", "trainer=smoke"),
        cwd=tmp_path, env=environment() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "results/default/runs.csv")
    hidden = table[(table["pattern"] == "every_nth") & (table["model"] == "median")].iloc[0]
    assert hidden["status"] == "done"
    assert hidden["rate_hidden"] == pytest.approx(1 / 4)
    rows = table[table["pattern"] == "point"].set_index("model")
    assert rows.loc["median", "status"] == "done"
    assert rows.loc["median", "step_mae"] < 6
    assert rows.loc["grin", "status"] == "skipped"
    assert "no road distances" in rows.loc["grin", "reason"]
