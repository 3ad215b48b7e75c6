"""Runs a closed-form method on the whole visible series and scores its test windows."""

import time
from typing import Protocol, runtime_checkable

import numpy as np

from benchmarks.fit import Fitted
from benchmarks.methods import Setting
from benchmarks.metrics import Scores, entry_errors
from benchmarks.training_process import require_hidden
from benchmarks.windows import windows_covering


@runtime_checkable
class ClosedForm(Protocol):
    """A method that fills a whole series at once."""

    def impute(self, values: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Fills `values` `[t n]`, NaN where not `visible`."""


def impute(method: ClosedForm, setting: Setting) -> Fitted:
    """Fills the series and scores it under both conventions.

    All windows that contain an entry get the same estimate for it, so the "window" convention
    only counts it more often.

    Raises:
        InputError: nothing is hidden in the validation or the test windows.
        ValueError: the method left an entry without a finite value.
    """
    require_hidden(setting)
    masked, split = setting.masked, setting.split
    started = time.monotonic()
    filled = np.asarray(method.impute(masked.visible_values, masked.visible), dtype=np.float32)
    seconds = time.monotonic() - started
    if not np.isfinite(filled).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(filled))} entries were not filled")
    truth = masked.series.values
    weight = windows_covering(split.test, split.window, len(truth))
    weight = np.broadcast_to(weight[:, None], truth.shape)
    scored = masked.held_out & (weight > 0)
    facts = {
        "n_params": 0,
        "train_seconds": round(seconds, 3),
        "windows_per_second": round((len(truth) - split.window + 1) / max(seconds, 1e-9), 1),
    }
    return Fitted(
        np.where(weight > 0, filled, np.nan).astype(np.float32),
        Scores(
            scored,
            window=entry_errors(filled, truth, scored, weight),
            step=entry_errors(filled, truth, scored),
        ),
        facts,
    )
