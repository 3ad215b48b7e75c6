"""The rows of an experiment, read from its folder and checked."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.errors import InputError
from benchmarks.rows import COLUMNS, METRICS, STATUSES, assemble, cell_folder

CLOSED_FORM = "closed form"
"""Budget of a method that is not trained by gradients."""

SETTING = ["dataset", "pattern", "rate", "window", "protocol"]
CELL = [*SETTING, "model", "mask_seed", "seed"]

REQUIRED = ("key", "status", "model", "label", "dataset", "title", "unit", "pattern", "budget")
RATES = ("rate_native", "rate_hidden", "rate_total")
COSTS = (
    "n_params", "epochs", "best_epoch", "train_steps", "train_seconds", "seconds_per_step",
    "windows_per_second", "peak_memory_mb",
)  # fmt: skip
NUMBERS = (
    "rate", "window", "mask_seed", "seed", *RATES, "scored_entries", "val_mae", "threads", *COSTS,
    "micro_batches", "attempts", "seconds",
    *(f"{convention}_{metric}" for convention in ("window", "step") for metric in METRICS),
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """An experiment's rows and what follows from them."""

    folder: Path
    runs: pd.DataFrame

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows that count: finished, with a score, the newest of each cell."""
        scored = self._scored.sort_values("finished", kind="stable")
        return scored.drop_duplicates(CELL, keep="last").sort_index()

    @cached_property
    def replaced(self) -> pd.DataFrame:
        """Finished rows of a cell that was run again with another configuration."""
        return self._scored.drop(self.done.index)

    @cached_property
    def problems(self) -> pd.DataFrame:
        """The rows without a score."""
        return self.runs.drop(self._scored.index)

    @cached_property
    def labels(self) -> dict[str, str]:
        """Name of each method for readers, the best by mean rank first."""
        ranks = mean_ranks(
            self.done.pivot_table(
                index="model", columns=["dataset", "setting"], values="window_mae"
            )
        )
        names = self.runs.drop_duplicates("model").set_index("model")["label"]
        order = [*ranks.index, *(model for model in names.index if model not in ranks.index)]
        return {str(model): str(names[model]) for model in order}

    @cached_property
    def closed_form(self) -> set[str]:
        """The methods that are not trained by gradients."""
        return set(self.runs.loc[self.runs["budget"] == CLOSED_FORM, "model"])

    @cached_property
    def configurations(self) -> dict[str, dict[str, Any]]:
        """The method's part of the configuration, from a cell of each method that has one."""
        found: dict[str, dict[str, Any]] = {}
        for model, key in zip(self.runs["model"], self.runs["key"], strict=True):
            path = cell_folder(self.folder, key) / "config.yaml"
            if model not in found and path.exists():
                found[model] = dict(yaml.safe_load(path.read_text()).get("model") or {})
        return found

    @cached_property
    def captions(self) -> dict[str, str]:
        """What each dataset is, in words that say so if it is a slice or simulated."""
        first = self.runs.drop_duplicates("dataset").set_index("dataset")
        simulated = set(self.runs.loc[self.runs["simulated"] == "True", "dataset"])
        return {
            str(name): f"Simulated: {title}"
            if name in simulated and "simulated" not in title.lower()
            else title
            for name, title in first["title"].items()
        }

    @property
    def _scored(self) -> pd.DataFrame:
        finite = self.runs[["window_mae", "step_mae"]].notna().all(axis=1)
        return self.runs[(self.runs["status"] == "done") & finite]

    def of(self, dataset: str) -> pd.DataFrame:
        """The rows of a dataset that count."""
        return self.done[self.done["dataset"] == dataset]


def read_results(folder: Path) -> Results:
    """Reads `runs.csv`, which is made from the cells where it is absent.

    Raises:
        InputError: a row that is malformed or that stands there twice.
    """
    path = folder / "runs.csv"
    if not path.exists():
        assemble(folder)
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = [*csv.reader(file)] or [[]]
    if header != list(COLUMNS):
        odd = sorted(set(header) ^ set(COLUMNS)) or ["another order"]
        raise InputError(f"{path} has not the columns of benchmarks.rows: {', '.join(odd)}")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            what = f"{len(line)} fields instead of {len(header)}"
            raise InputError(f"{path}, row {number} (key {line[0] if line else ''}): has {what}")
    runs = pd.DataFrame(lines, columns=header, dtype=str)
    _check_rows(path, runs)
    for column in NUMBERS:
        runs[column] = pd.to_numeric(runs[column])
    runs["setting"] = _setting_names(runs)
    return Results(folder, runs)


def _check_rows(path: Path, runs: pd.DataFrame) -> None:
    def fail(index: Any, what: str) -> None:
        raise InputError(f"{path}, row {int(index) + 1} (key {runs.loc[index, 'key']}): {what}")

    for column in REQUIRED:
        for index in runs.index[runs[column] == ""]:
            fail(index, f"{column} is empty")
    for index in runs.index[~runs["status"].isin(STATUSES)]:
        status = runs.loc[index, "status"]
        fail(index, f"status {status!r} is unknown; choose from {', '.join(STATUSES)}")
    for column in NUMBERS:
        numbers = pd.to_numeric(runs[column], errors="coerce")
        bad = (numbers.isna() & (runs[column] != "")) | ~(numbers.isna() | np.isfinite(numbers))
        for index in runs.index[bad]:
            fail(index, f"{column}={runs.loc[index, column]!r} is no number")
        for index in runs.index[(numbers < 0) | ((numbers > 1) & (column in ("rate", *RATES)))]:
            fail(index, f"{column}={runs.loc[index, column]} is out of range")
    for key, twice in runs.groupby("key").groups.items():
        if len(twice) > 1:
            places = " and ".join(str(int(index) + 1) for index in twice)
            raise InputError(f"{path}: key {key} stands in rows {places}; delete all but one")


def _setting_names(runs: pd.DataFrame) -> list[str]:
    """`point 25 %`, with the window or the protocol where the experiment has several."""
    varied = [name for name in ("window", "protocol") if runs[name].nunique() > 1]
    return [
        row["pattern"]
        + ("" if pd.isna(row["rate"]) else f" {percent(row['rate'])}")
        + "".join(f", {name} {row[name]}" for name in varied)
        for row in runs.to_dict("records")
    ]


def percent(share: float) -> str:
    """A share as `25 %`, with as many decimals as it needs, at most two."""
    return f"{round(100 * share, 2):g} %"


def mean_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Mean rank of each method over the settings it has (`rank`, `settings`), the best first.

    Ranks over all settings cannot be compared with ranks over some: methods that lack a setting
    come after those that lack none.
    """
    ranks = table.rank(axis=0)
    found = pd.DataFrame({"rank": ranks.mean(axis=1), "settings": ranks.notna().sum(axis=1)})
    lacking = found["settings"] < table.shape[1]
    keys = found.assign(lacking=lacking, name=found.index)
    order = keys.sort_values(["lacking", "rank", "name"]).index
    return found.loc[order]
