"""The numbers that the report's tables and figures show."""

import numpy as np
import pandas as pd

from benchmarks.results import COSTS, RATES, SETTING, Results

REFERENCE = "linear"
"""The method all others are measured against, where an experiment has it."""


FEATURED = "psan"
"""The method that the suite was built around: figures of a few methods always have it."""


def settings_of(runs: pd.DataFrame) -> list[str]:
    """Names of the settings, by pattern and rate."""
    ordered = runs.sort_values(["pattern", "rate", "window", "protocol"])
    return list(dict.fromkeys(ordered["setting"]))


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


def costs(results: Results) -> pd.DataFrame:
    """Mean costs of each method on each dataset and device."""
    by = ["dataset", "model", "device", "threads"]
    found = results.done.groupby(by, dropna=False)[list(COSTS)].mean().reset_index()
    order = found["model"].map(list(results.labels).index)
    return found.assign(order=order).sort_values(["dataset", "order"], kind="stable")


def budgets(results: Results) -> pd.DataFrame:
    """Training budgets of each method and the datasets that it was trained on with each."""
    found = results.runs.groupby(["model", "budget"])["dataset"].agg(distinct).reset_index()
    order = found["model"].map(list(results.labels).index)
    return found.assign(order=order).sort_values("order", kind="stable")


def environments(runs: pd.DataFrame) -> pd.DataFrame:
    """Software and devices of the runs, how many had each, and when."""
    by = ["suite_version", "git_commit", "torch_version", "python_version", "device", "threads"]
    groups = runs.groupby(by, dropna=False)["finished"]
    return groups.agg(runs="size", first="min", last="max").reset_index()


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
    done, found = results.done, []
    for dataset, prints in done.groupby("dataset")["dataset_fingerprint"].agg(distinct).items():
        if len(prints) > 1:
            found.append(f"{dataset} was not the same data in all runs: {', '.join(prints)}.")
    masks = done.groupby(["dataset", "setting", "mask_seed"])["mask_hash"].agg(distinct)
    for row in masks.reset_index().to_dict("records"):
        hashes = row["mask_hash"]
        if len(hashes) > 1:
            mask = f"{row['dataset']}, {row['setting']}, mask seed {row['mask_seed']:.0f}"
            found.append(f"{mask}: not all methods had the same mask: {', '.join(hashes)}.")
    present = {path.parent.name for path in results.folder.glob("cells/*/row.json")}
    new = sorted(present - set(results.runs["key"]))
    if new:
        found.append(f"runs.csv lacks {len(new)} cells that have a row: {', '.join(new)}.")
    return found
