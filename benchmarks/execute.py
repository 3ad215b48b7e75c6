"""Runs one cell, from its configuration to its result row."""

import json
import logging
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks import rows
from benchmarks.atomic import write_npz_atomically, write_text_atomically
from benchmarks.breakdowns import score_groups
from benchmarks.budgets import WindowedTraining
from benchmarks.cell import Cell, describe
from benchmarks.claims import claimed
from benchmarks.closed_form import impute
from benchmarks.data.series import Series
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.examples import example_arrays
from benchmarks.failures import failure_of, is_about_place
from benchmarks.fit import Fitted, fit
from benchmarks.identify import NO_DATA, as_text, identify
from benchmarks.machine import (
    device_name,
    peak_memory_mb,
    reset_peak_memory,
    software,
)
from benchmarks.masks import MaskedSeries
from benchmarks.masks.drawing import draw_mask
from benchmarks.masks.saved import save_mask
from benchmarks.methods import Setting, build
from benchmarks.process import keep_freed_memory
from benchmarks.tracking import Tracker, end_run
from benchmarks.training import NonFiniteLossError
from benchmarks.windowed import fit_windowed
from benchmarks.windows import Split, split_windows

log = logging.getLogger(__name__)

REPORT_SECONDS = 15
"""Least time between two messages about a training."""


def run_cell(
    cell: Cell, attempts: int | None = None, failure: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Runs a cell unless it is done already or another process is at it, and returns its row.

    Whatever goes wrong becomes a row with status `failed` and its reason.

    Args:
        cell: the cell.
        attempts: how many the caller knows of; where the row tells of more, another process has
            just made one, and its row is returned. None = it does not matter.
        failure: how an attempt ended whose process could not say so itself; it is recorded, and
            nothing is run.

    Returns:
        The row; `status` and `key` alone where another process has claimed the cell ("running").

    Raises:
        InputError: the results folder cannot be used.
        OSError: nothing can be written there any more.
    """
    _software()  # before the run: the checkout may change while it lasts
    found = identify(cell)
    folder = rows.cell_folder(cell.experiment, found.key)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder) as other:
        if other is not None:
            log.info("%s: another process is at it", describe(found.identity))
            return {"status": rows.RUNNING, "key": found.key}
        if found.series is None:
            return _record(cell, found.identity, _unread(cell, found.error))
        return _run_once(cell, found.series, found.identity, folder, attempts, failure)


def _unread(cell: Cell, error: Exception | None) -> dict[str, Any]:
    assert error is not None
    if not isinstance(error, InputError):
        log.error("%s could not be loaded", cell.dataset["name"], exc_info=error)
    return failure_of(error)


def _run_once(
    cell: Cell,
    series: Series,
    identity: Mapping[str, Any],
    folder: Path,
    known: int | None,
    failure: Mapping[str, Any] | None,
) -> dict[str, Any]:
    before = rows.read_row(cell.experiment, identity["key"])
    if before and before["status"] == "done":
        log.info("%s: done before (%s)", describe(identity), identity["key"])
        return before
    attempts = rows.attempts(before)
    if before and known is not None and attempts > known:
        log.info("%s: another launch has just tried it", describe(identity))
        return before
    _forget_unavailable(cell)
    write_text_atomically(folder / "config.yaml", yaml.safe_dump(cell.plain(), sort_keys=False))
    started = time.monotonic()
    if failure is not None:
        row = _record(cell, identity, {"attempts": attempts + 1, **failure})
        end_run(cell.tracking, cell.experiment, row)
        return row
    tracker = Tracker(cell.tracking, cell.name, identity, cell.plain())
    result = _attempt(cell, series, identity, folder, tracker)
    cost = {"attempts": attempts + 1, "seconds": round(time.monotonic() - started, 2)}
    row = _record(cell, identity, cost | result)
    tracker.finish(row, folder)
    return row


def _attempt(
    cell: Cell, series: Series, identity: Mapping[str, Any], folder: Path, tracker: Tracker
) -> dict[str, Any]:
    """What the cell comes to, be it a failure."""
    try:
        return _measure(cell, series, folder, tracker)
    except NeedNotMetError as error:
        return {"status": "skipped", "reason": str(error)}
    except Exception as error:
        if is_about_place(error):
            raise  # no fault of the cell, which is run again when there is place
        if not isinstance(error, (InputError, NonFiniteLossError)):
            log.exception("%s failed", describe(identity))
        return failure_of(error)


def _measure(cell: Cell, series: Series, folder: Path, tracker: Tracker) -> dict[str, Any]:
    split = split_windows(len(series.time), cell.window)
    whole = _draw(as_text(cell.generator), as_text(cell.mask["needs"]), series, cell.mask_seed)
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


@lru_cache(maxsize=1)  # a sweep runs all methods on a mask before it comes to the next
def _draw(generator: str, needs: str, series: Series, seed: int) -> MaskedSeries:
    """What cells share: the mask, and what scores are grouped by. No method gets hold of it."""
    masked = draw_mask(json.loads(generator), json.loads(needs), series, seed)
    masked.drawn.flags.writeable = False
    return masked


@cache
def _software() -> dict[str, str]:
    """Versions and commit as they were when this process ran its first cell."""
    return software()
