"""Runs one cell, from its configuration to its result row."""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from filelock import FileLock

from benchmarks import rows
from benchmarks.atomic import write_npz_atomically, write_text_atomically
from benchmarks.breakdowns import score_groups
from benchmarks.budgets import WindowedTraining
from benchmarks.cell import Cell, describe
from benchmarks.closed_form import impute
from benchmarks.data import load_series
from benchmarks.data.series import Series
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.examples import example_arrays
from benchmarks.fit import Fitted, fit
from benchmarks.machine import (
    device_name,
    peak_memory_mb,
    reset_peak_memory,
    software,
)
from benchmarks.masks import MaskedSeries
from benchmarks.masks.drawing import draw_mask, mask_facts
from benchmarks.masks.saved import save_mask
from benchmarks.methods import Setting, build
from benchmarks.process import keep_freed_memory
from benchmarks.tracking import Tracker
from benchmarks.training import NonFiniteLossError
from benchmarks.windowed import fit_windowed
from benchmarks.windows import Split, split_windows

log = logging.getLogger(__name__)

NO_DATA = "unavailable"
"""Stands for the dataset's fingerprint in the key of a cell whose data could not be read."""

REPORT_SECONDS = 15
"""Least time between two messages about a training."""


def run_cell(cell: Cell) -> dict[str, Any]:
    """Runs a cell unless it is done already, and returns its row.

    Whatever goes wrong becomes a row with status `failed` and its reason.

    Raises:
        InputError: the results folder cannot be used.
    """
    _software()  # before the run: the checkout may change while it lasts
    try:
        series = _load(_text(cell.dataset), cell.data_root)
    except Exception as error:
        if not isinstance(error, InputError):
            log.exception("%s could not be loaded", cell.dataset["name"])
        key = cell.key(NO_DATA)
        return _record(cell, cell.identity(key, NO_DATA), _failure(error))
    key = cell.key(series.fingerprint, mask_facts(cell.mask["needs"], series))
    identity = cell.identity(key, series.fingerprint) | {"simulated": series.simulated}
    folder = rows.cell_folder(cell.experiment, key)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "cell.lock"):  # a second process waits, then finds it done
        return _run_once(cell, series, identity, folder)


def _run_once(
    cell: Cell, series: Series, identity: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    key = identity["key"]
    done = rows.read_row(cell.experiment, key)
    if done and done["status"] == "done":
        log.info("%s: done before (%s)", describe(identity), key)
        return done
    _forget_unavailable(cell)
    write_text_atomically(folder / "config.yaml", yaml.safe_dump(cell.plain(), sort_keys=False))
    tracker = Tracker(cell.tracking, cell.name, identity, cell.plain())
    try:
        result = _measure(cell, series, folder, tracker)
    except NeedNotMetError as error:
        result = {"status": "skipped", "reason": str(error)}
    except Exception as error:
        if not isinstance(error, (InputError, NonFiniteLossError)):
            log.exception("%s failed", describe(identity))
        result = _failure(error)
    row = _record(cell, identity, result)
    tracker.finish(row, folder)
    return row


def _measure(cell: Cell, series: Series, folder: Path, tracker: Tracker) -> dict[str, Any]:
    split = split_windows(len(series.time), cell.window)
    whole = _draw(_text(cell.generator), _text(cell.mask["needs"]), series, cell.mask_seed)
    masked = MaskedSeries(series, whole.drawn)  # the method's own, which it may write to
    save_mask(cell.experiment, masked)
    setting = Setting(masked, split, cell.seed, cell.dataset["graph"], cell.model["time_features"])
    method = build(cell.model, setting)
    keep_freed_memory()
    reset_peak_memory()
    training = cell.training
    on_gpu = training is not None and cell.trainer.on_gpu
    if training is None:
        fitted = impute(method, setting)
    elif isinstance(training, WindowedTraining):
        fitted = fit_windowed(method, training, setting, cell.trainer)
    else:
        progress = _EpochReport(describe(cell.identity("", "")), cell.trainer.max_epochs, tracker)
        fitted = fit(method, training, setting, cell.trainer, folder, progress)
    _write_arrays(cell, masked, split, fitted, folder)
    groups = score_groups(fitted.scores, whole)
    write_text_atomically(folder / "scores.csv", groups.to_csv(index=False, float_format="%.6g"))
    by_window, by_step = fitted.scores.window.total(), fitted.scores.step.total()
    return {
        "status": "done",
        "reason": "",
        **masked.rates(),
        "mask_hash": masked.mask_hash,
        **{f"window_{name}": float(value) for name, value in by_window.scores().items()},
        **{f"step_{name}": float(value) for name, value in by_step.scores().items()},
        "scored_entries": int(by_step.count),
        "peak_memory_mb": peak_memory_mb(on_gpu),
        **fitted.facts,  # a training knows its peak over all launches
        "device": device_name(on_gpu, 1 if training is None else cell.trainer.devices),
        "threads": torch.get_num_threads(),
    }


def _write_arrays(
    cell: Cell, masked: MaskedSeries, split: Split, fitted: Fitted, folder: Path
) -> None:
    steps = split.steps(split.test)
    arrays = {
        "imputed": np.where(masked.visible, masked.series.values, fitted.filled)[steps],
        "truth": masked.series.values[steps],
        "held_out": masked.held_out[steps],
        "visible": masked.visible[steps],
        "time": masked.series.time[steps].to_numpy(),
    }
    example = example_arrays(arrays, masked.series.sensors)
    write_npz_atomically(folder / "example.npz", example)
    if cell.save_predictions:
        write_npz_atomically(folder / "predictions.npz", arrays)


def _record(cell: Cell, identity: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    row = {**identity, **result, **_software(), "finished": finished}
    row = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
    rows.write_row(cell.experiment, row)
    if row["status"] == "done":
        log.info(
            "%s: MAE %.4g %s (window), %.4g (step)",
            describe(row), row["window_mae"], row["unit"], row["step_mae"],
        )  # fmt: skip
    else:
        log.error("%s: %s: %s", describe(row), row["status"], row["reason"])
    return row


def _failure(error: Exception) -> dict[str, Any]:
    text = str(error) if isinstance(error, (InputError, NonFiniteLossError)) else repr(error)
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return {"status": "out_of_memory" if memory else "failed", "reason": text}


def _forget_unavailable(cell: Cell) -> None:
    """Removes the row of an earlier attempt that found no data: this attempt replaces it."""
    folder = rows.cell_folder(cell.experiment, cell.key(NO_DATA))
    shutil.rmtree(folder, ignore_errors=True)


class _EpochReport:
    """Hands each epoch to the tracker, and every now and then to the log."""

    def __init__(self, what: str, epochs: int, tracker: Tracker):
        self.what, self.epochs, self.tracker = what, epochs, tracker
        self._last = time.monotonic()

    def __call__(self, line: Mapping[str, float]) -> None:
        self.tracker.epoch(line)
        if time.monotonic() - self._last >= REPORT_SECONDS:
            self._last = time.monotonic()
            log.info(
                "  %s: epoch %d of %d, validation MAE %.4g",
                self.what, line["epoch"], self.epochs, line["val_mae"],
            )  # fmt: skip


def _text(part: Mapping[str, Any] | Sequence[str]) -> str:
    """A part of the configuration as a text, which a cache can compare."""
    return yaml.safe_dump(part)


@lru_cache(maxsize=2)
def _load(dataset: str, data_root: Path) -> Series:
    return load_series(yaml.safe_load(dataset), data_root)


@lru_cache(maxsize=1)  # a sweep runs all methods on a mask before it comes to the next
def _draw(generator: str, needs: str, series: Series, seed: int) -> MaskedSeries:
    """What cells share: the mask, and what scores are grouped by. No method gets hold of it."""
    masked = draw_mask(yaml.safe_load(generator), yaml.safe_load(needs), series, seed)
    masked.drawn.flags.writeable = False
    return masked


@cache
def _software() -> dict[str, str]:
    """Versions and commit as they were when this process ran its first cell."""
    return software()
