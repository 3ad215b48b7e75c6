"""The rows of an experiment, checked, and the numbers that the report's tables show."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.errors import InputError
from benchmarks.rows import COLUMNS, METRICS, STATUSES, assemble, cell_folder

CLOSED_FORM = "closed form"
"""Budget of a method that is not trained by gradients."""

REFERENCE = "linear"
"""The method all others are measured against, where an experiment has it."""

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
    try:
        runs = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise InputError(f"{path} cannot be read: {str(error).strip()}") from error
    if list(runs.columns) != list(COLUMNS):
        odd = sorted(set(runs.columns) ^ set(COLUMNS)) or ["order"]
        raise InputError(f"{path} has not the columns of benchmarks.rows: {', '.join(odd)}")
    _check_rows(path, runs)
    for column in NUMBERS:
        runs[column] = pd.to_numeric(runs[column])
    runs["setting"] = _setting_names(runs)
    return Results(folder, runs)


def _check_rows(path: Path, runs: pd.DataFrame) -> None:
    def fail(index: Any, what: str) -> None:
        raise InputError(f"{path}, row {int(index) + 1} (key {runs.loc[index, 'key']}): {what}")

    for index in runs.index[runs.isna().any(axis=1)]:
        fail(index, "has too few fields")
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


def _setting_names(runs: pd.DataFrame) -> pd.Series:
    """`point 25 %`, with the window or the protocol where the experiment has several."""
    rate = runs["rate"].map(lambda rate: "" if pd.isna(rate) else f" {percent(rate)}")
    names = runs["pattern"] + rate
    for column in ("window", "protocol"):
        if runs[column].nunique() > 1:
            value = runs[column].map("{:g}".format) if column == "window" else runs[column]
            names += f", {column} " + value
    return names


def percent(share: float) -> str:
    """A share as `25 %`, with as many decimals as it needs, at most two."""
    return f"{round(100 * share, 2):g} %"


def settings_of(runs: pd.DataFrame) -> list[str]:
    """Names of the settings, by pattern and rate."""
    ordered = runs.sort_values(["pattern", "rate", "window", "protocol"])
    return list(dict.fromkeys(ordered["setting"]))


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


def against_reference(done: pd.DataFrame, metric: str = "window_mae") -> pd.DataFrame:
    """Rows with `relative`: how far a run's error is from the reference's, as a share of it.

    Each run is compared under its own mask; rows whose mask the reference lacks are left out.
    """
    on = [*SETTING, "mask_seed"]
    reference = done[done["model"] == REFERENCE].groupby(on, dropna=False)[metric].mean()
    joined = done.merge(reference.rename("reference").reset_index(), on=on)
    return joined.assign(relative=joined[metric] / joined["reference"] - 1)


def realised_rates(done: pd.DataFrame) -> pd.DataFrame:
    """What the masks hid: mean rates and entries, and the seeds, of each dataset and setting."""
    return (
        done.groupby(["dataset", "setting"], sort=False)
        .agg(
            **{rate: (rate, "mean") for rate in RATES},
            scored_entries=("scored_entries", "mean"),
            mask_seeds=("mask_seed", lambda seeds: ", ".join(distinct(seeds))),
            seeds=("seed", lambda seeds: ", ".join(distinct(seeds))),
        )
        .reset_index()
    )


def costs(done: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean costs of each method on each dataset and device."""
    by = ["dataset", "model", "device", "threads"]
    found = done.groupby(by, dropna=False)[list(COSTS)].mean().reset_index()
    return list(found.to_dict("records"))


def environments(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Software and devices of the runs, how many had each, and when."""
    by = ["suite_version", "git_commit", "torch_version", "python_version", "device", "threads"]
    groups = runs.groupby(by, dropna=False)["finished"]
    found = groups.agg(runs="size", first="min", last="max").reset_index()
    return list(found.to_dict("records"))


def distinct(values: pd.Series) -> list[str]:
    """The different values, sorted, as texts."""
    return [
        f"{value:.12g}" if isinstance(value, float) else str(value)
        for value in sorted(values.dropna().unique())
    ]


def missing(results: Results) -> pd.DataFrame:
    """Cells that a full grid over the experiment's methods, settings and seeds would have."""
    runs = results.runs
    seedless = {model for model, seeds in runs.groupby("model")["seed"] if seeds.isna().all()}
    seeds = sorted(runs["seed"].dropna().unique())
    present = set(
        runs[["model", "dataset", "setting", "mask_seed", "seed"]]
        .fillna(-1)
        .itertuples(index=False, name=None)
    )
    lacking = [
        {
            "model": model,
            "dataset": dataset,
            "setting": setting,
            "mask_seed": mask_seed,
            "seed": seed,
        }
        for dataset, setting, mask_seed in runs[["dataset", "setting", "mask_seed"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
        for model in results.labels
        for seed in ([-1] if model in seedless else seeds)
        if (model, dataset, setting, mask_seed, seed) not in present
    ]
    columns = ["model", "dataset", "setting", "mask_seed", "seed"]
    return pd.DataFrame(lacking, columns=columns).replace({"seed": -1}, np.nan)


def conflicts(results: Results) -> list[str]:
    """What makes rows of the experiment hard to compare, a sentence each."""
    found = []
    for dataset, prints in results.done.groupby("dataset")["dataset_fingerprint"]:
        if prints.nunique() > 1:
            found.append(
                f"{dataset} was not the same data in all runs: {', '.join(distinct(prints))}."
            )
    masks = results.done.groupby([*SETTING, "mask_seed"], dropna=False)["mask_hash"]
    for (dataset, pattern, rate, *_), hashes in masks:
        if hashes.nunique() > 1:
            where = f"{dataset}, {pattern}" + ("" if pd.isna(rate) else f" {percent(rate)}")
            found.append(
                f"{where}: not all methods had the same mask: {', '.join(distinct(hashes))}."
            )
    known = set(results.runs["key"])
    new = sorted(
        path.parent.name
        for path in results.folder.glob("cells/*/row.json")
        if path.parent.name not in known
    )
    if new:
        found.append(f"runs.csv lacks {len(new)} cells that have a row: {', '.join(new)}.")
    return found


def configurations(results: Results) -> dict[str, dict[str, Any]]:
    """The method's part of the configuration, from a cell of each method that has one."""
    import yaml

    found: dict[str, dict[str, Any]] = {}
    for model, keys in results.runs.groupby("model")["key"]:
        for key in keys:
            path = cell_folder(results.folder, key) / "config.yaml"
            if path.exists():
                found[str(model)] = dict(yaml.safe_load(path.read_text()).get("model") or {})
                break
    return found
