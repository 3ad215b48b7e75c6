"""Runs a windowed method, which trains itself on windows given as arrays, and scores the test.

This is how methods of other libraries take part: same windows, mask, scaler, budget and scores as
the gradient methods, but their own training loop. Their windows of an epoch are a random subset,
drawn once from the seed, of as many windows as a gradient method sees in one epoch. A training
that was interrupted starts anew.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from benchmarks.batches import OrderedBatches, SeriesWindows, ShuffledBatches
from benchmarks.budgets import TrainerConfig, WindowedTraining
from benchmarks.errors import InputError
from benchmarks.fit import Fitted
from benchmarks.methods import Setting
from benchmarks.metrics import WindowScorer
from benchmarks.scaling import Scaler
from benchmarks.training import NonFiniteLossError
from benchmarks.training_process import prepare, require_hidden

PRECISIONS = ("auto", "32-true")
"""Values of `trainer.precision` that a windowed method can keep: it works in float32."""


@runtime_checkable
class Windowed(Protocol):
    """A method that trains itself on windows, scaled, NaN where it may not look."""

    def fit(
        self,
        train: Float[np.ndarray, "b t n"],
        validation: Float[np.ndarray, "v t n"],
        validation_truth: Float[np.ndarray, "v t n"],
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        patience: int,
        device: str,
    ) -> Mapping[str, Any]:
        """Trains, and returns what it knows of `n_params`, `epochs` and `best_epoch`.

        `validation_truth` adds the held-out readings of the validation windows, which only choose
        the best epoch; it is NaN where there is no reading.
        """

    def impute(self, windows: Float[np.ndarray, "b t n"]) -> Float[np.ndarray, "b t n"]:
        """Estimates for every entry of windows like those it was trained on, scaled."""


def fit_windowed(
    method: Windowed, training: WindowedTraining, setting: Setting, trainer: TrainerConfig
) -> Fitted:
    """Trains `method` and scores every test window.

    Args:
        method: the method.
        training: how it is trained.
        setting: the masked series and its split.
        trainer: budget and hardware.

    Raises:
        InputError: nothing is hidden in the validation or the test windows, or another precision
            than float32 or several devices are asked for.
        NonFiniteLossError: a prediction is NaN or infinite.
    """
    facts = train_windowed(method, training, setting, trainer)
    scaler, windows = prepare(setting, training.scaling)
    test, started = setting.split.test, time.monotonic()
    scorer = _scored(method, setting, scaler, windows, test, trainer)
    facts["windows_per_second"] = round(len(test) / (time.monotonic() - started), 2)
    return Fitted(scorer.filled(), scorer.scores(), facts)


def train_windowed(
    method: Windowed, training: WindowedTraining, setting: Setting, trainer: TrainerConfig
) -> dict[str, Any]:
    """Trains `method` as `fit_windowed` does, and predicts no test window.

    Arguments and errors are those of `fit_windowed`.

    Returns:
        What the training cost and the best validation error, by column of a row.
    """
    require_hidden(setting)
    _require_possible(trainer)
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    scaler, windows = prepare(setting, training.scaling)
    train, validation = _parts(training, setting, trainer)
    started = time.monotonic()
    known = method.fit(
        _inputs(windows, sorted(start for batch in train for start in batch)),
        _inputs(windows, list(validation)),
        _truth(setting, scaler, validation),
        epochs=trainer.max_epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        patience=training.patience,
        device="cuda" if trainer.on_gpu else "cpu",
    )
    trained = time.monotonic()
    val_mae = _scored(method, setting, scaler, windows, validation, trainer).scores().window.total()
    facts = {
        "precision": "32-true",
        **known,
        "val_mae": float(val_mae.scores()["mae"]),
        "train_seconds": round(trained - started, 2),
    }
    if "epochs" in known:
        facts["train_steps"] = known["epochs"] * len(train)
    return facts


def _parts(
    training: WindowedTraining, setting: Setting, trainer: TrainerConfig
) -> tuple[list[list[int]], range]:
    """First steps of the training windows, in batches, and of the validation windows."""
    split = setting.split
    train = ShuffledBatches(
        split.train, training.batch_size, trainer.batches_per_epoch, setting.seed
    )
    return list(train), split.validation[:: trainer.validation_stride]


def _require_possible(trainer: TrainerConfig) -> None:
    """Refuses what a method cannot keep to that trains itself."""
    if trainer.precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision={trainer.precision} is not possible with a windowed method; "
            f"choose from {', '.join(PRECISIONS)}"
        )
    if trainer.devices > 1:
        raise InputError(
            f"trainer.devices={trainer.devices} is not possible with a windowed method, which "
            "trains itself: choose 1"
        )


def _inputs(windows: SeriesWindows, starts: list[int]) -> np.ndarray:
    """What a method may see of the windows that begin at `starts` `[b t n]`, NaN elsewhere."""
    batch = windows[starts]
    return torch.where(batch.visible, batch.x, torch.nan)[..., 0].numpy()


def _truth(setting: Setting, scaler: Scaler, starts: range) -> np.ndarray:
    """Every reading of the validation windows `[b t n]`, scaled; no other hidden value is read."""
    series, steps = setting.masked.series, setting.split.steps(starts)
    readings = np.where(series.observed[steps], scaler.scale(series.values[steps]), np.nan)
    first = np.asarray(starts)[:, None] - steps.start
    return readings[first + np.arange(setting.split.window)].astype(np.float32)


def _scored(
    method: Windowed,
    setting: Setting,
    scaler: Scaler,
    windows: SeriesWindows,
    starts: range,
    trainer: TrainerConfig,
) -> WindowScorer:
    """Scores the windows that begin at `starts`, in original units."""
    masked = setting.masked
    scorer = WindowScorer(masked.series.values, masked.held_out, setting.split.window)
    for batch in OrderedBatches(starts, trainer.eval_batch_size):
        estimates = method.impute(_inputs(windows, batch)) * scaler.std + scaler.mean
        if not np.isfinite(estimates).all():
            raise NonFiniteLossError("the predictions are not all finite")
        scorer.update(np.asarray(batch), estimates.astype(np.float32))
    return scorer
