"""Result rows: one JSON file per cell, written atomically, and the table made from them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.atomic import write_text_atomically
from benchmarks.errors import InputError

if TYPE_CHECKING:
    import pandas

STATUSES = ("done", "failed", "skipped", "out_of_memory", "timeout")
GOOD = ("done", "skipped")
"""Statuses of cells at which nothing went wrong."""

RUNNING = "running"
"""Stands for the status of a cell that another process is at; no row has it."""

METRICS = ("mae", "rmse", "mse", "mre", "mape", "mape_left_out")

COLUMNS = (
    # what was run
    "key", "status", "reason", "experiment", "model", "label", "dataset", "title", "simulated",
    "unit", "pattern", "rate", "protocol", "window", "mask_seed", "seed", "budget",
    # what was hidden
    "rate_native", "rate_hidden", "rate_total", "mask_hash", "dataset_fingerprint",
    # how well
    *(f"{convention}_{metric}" for convention in ("window", "step") for metric in METRICS),
    "scored_entries", "val_mae",
    # at what cost
    "n_params", "epochs", "best_epoch", "train_steps", "train_seconds", "seconds_per_step",
    "windows_per_second", "peak_memory_mb", "device", "threads", "precision", "micro_batches",
    "attempts", "seconds",
    # by what
    "suite_version", "torch_version", "python_version", "git_commit", "finished",
)  # fmt: skip
"""Columns of `runs.csv`, in order; rates are shares of all entries, errors in original units."""

ORDER = ["dataset", "pattern", "rate", "model", "mask_seed", "seed", "key"]


def run_key(parts: Mapping[str, Any]) -> str:
    """16 hex digits that name an experiment: the same parts in any order give the same key."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cell_folder(experiment: Path, key: str) -> Path:
    """Folder of a cell's row, configuration, history, example and checkpoints."""
    return experiment / "cells" / key


def write_row(experiment: Path, row: Mapping[str, Any]) -> None:
    """Writes a cell's row.

    Raises:
        ValueError: a column that is unknown or a status that is.
    """
    unknown = set(row) - set(COLUMNS)
    if unknown or row["status"] not in STATUSES:
        raise ValueError(f"unknown columns {sorted(unknown)} or status {row['status']!r}")
    ordered = {column: row[column] for column in COLUMNS if column in row}
    text = json.dumps(ordered, indent=1, ensure_ascii=False) + "\n"
    write_text_atomically(cell_folder(experiment, row["key"]) / "row.json", text)


def read_row(experiment: Path, key: str) -> dict[str, Any] | None:
    """A cell's row, or None if it has none.

    Raises:
        InputError: the file is no JSON object.
    """
    path = cell_folder(experiment, key) / "row.json"
    try:
        row = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); delete it to run the cell again") from error
    if not isinstance(row, dict) or "status" not in row:
        raise InputError(f"{path} is no result row; delete it to run the cell again")
    return row


def attempts(row: Mapping[str, Any] | None) -> int:
    """How often the cell of a row was tried; rows of old have no number."""
    return 0 if row is None else int(row.get("attempts") or 1)


def assemble(experiment: Path) -> "pandas.DataFrame":
    """Collects the rows of an experiment and writes them to `runs.csv`, sorted."""
    import pandas as pd  # a quarter of a second that `--help` need not wait for

    rows = [read_row(experiment, path.parent.name) for path in experiment.glob("cells/*/row.json")]
    table = pd.DataFrame([row for row in rows if row], columns=list(COLUMNS))
    table = table.sort_values(ORDER, ignore_index=True)
    write_text_atomically(experiment / "runs.csv", table.to_csv(index=False))
    return table
