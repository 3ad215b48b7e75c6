"""Trains a gradient method with Lightning and scores its test windows."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from torch import nn

from benchmarks.batches import OrderedBatches, SeriesWindows, ShuffledBatches, loader
from benchmarks.calendar import time_features
from benchmarks.errors import InputError
from benchmarks.history import History
from benchmarks.methods import Setting
from benchmarks.metrics import Scores, WindowScorer
from benchmarks.scaling import Scaler, fit_scaler
from benchmarks.training import ImputationModule, NonFiniteLossError, TrainingConfig

CHOICES = {
    "precision": ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true"),
    "accelerator": ("auto", "cpu", "gpu"),
}
"""Values of `trainer.precision` and `trainer.accelerator`."""


@dataclass(frozen=True)
class TrainerConfig:
    """Budget and hardware of a training (`conf/trainer/*.yaml`)."""

    max_epochs: int
    batches_per_epoch: int
    batch_size: int | None
    validation_stride: int
    eval_batch_size: int
    precision: str
    accelerator: str
    threads: int | None
    progress: bool

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batches_per_epoch", "validation_stride", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"trainer.{name}={getattr(self, name)} must be at least 1")
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name}={value} must be at least 1, or null")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"trainer.{name}={getattr(self, name)} is unknown; choose from "
                    + ", ".join(choices)
                )

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is there and may be used."""
        return self.accelerator != "cpu" and torch.cuda.is_available()

    def resolved_precision(self) -> str:
        """What "auto" stands for on this machine; it is part of the run key."""
        if self.precision != "auto":
            return self.precision
        if not self.on_gpu:
            return "32-true"
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


@dataclass(frozen=True)
class Fitted:
    """What a method achieved on the test windows, and what it cost."""

    filled: np.ndarray  # [t n], original units, NaN outside the test steps
    scores: Scores
    facts: Mapping[str, Any]


def fit(
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    folder: Path,
    report: Callable[[Mapping[str, float]], None],
) -> Fitted:
    """Trains `network`, goes back to its best epoch and scores every test window.

    A training that was interrupted goes on from its last epoch, with the same result as one that
    was not.

    Args:
        network: the method.
        config: how the method is trained.
        setting: the masked series and its split.
        trainer_config: budget and hardware.
        folder: where checkpoints and `history.csv` are kept.
        report: called with each epoch's line of the history.

    Raises:
        InputError: nothing is hidden in the validation or the test windows.
        NonFiniteLossError: a loss, a validation error or a prediction is NaN or infinite.
    """
    masked, split = setting.masked, setting.split
    require_hidden(setting)
    scaler, windows = prepare(setting, config.scaling)
    scorer = WindowScorer(masked.series.values, masked.held_out, split.window)
    module = ImputationModule(
        network, config, scaler, trainer_config.max_epochs, setting.seed, scorer
    )
    history = History(folder / "history.csv", report)
    at_epoch_end: Any = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, "best", monitor="val_mae", **at_epoch_end)
    last = ModelCheckpoint(folder, "last", **at_epoch_end)  # after best: it carries best's state
    stop = EarlyStopping("val_mae", patience=config.patience, check_finite=False)
    trainer = _trainer(trainer_config, config, [history, stop, best, last])
    pin = trainer.strategy.root_device.type == "cuda"
    batches = ShuffledBatches(
        split.train, config.batch_size, trainer_config.batches_per_epoch, setting.seed
    )
    validation = OrderedBatches(
        split.validation[:: trainer_config.validation_stride], trainer_config.eval_batch_size
    )
    resume = folder / "last.ckpt"
    with _quiet():
        if not _ended_before(resume, history, stop):
            trainer.fit(
                module,
                loader(windows, batches, pin),
                loader(windows, validation, pin),
                ckpt_path=resume if resume.exists() else None,
                weights_only=True,
            )
        checkpoint = torch.load(folder / "best.ckpt", weights_only=True, map_location="cpu")
        module.load_state_dict(checkpoint["state_dict"])
        started = time.monotonic()
        test = OrderedBatches(split.test, trainer_config.eval_batch_size)
        trainer.test(module, loader(windows, test, pin), verbose=False)
    if not np.isfinite(scorer.filled()[scorer.covered]).all():
        raise NonFiniteLossError("the predictions for the test windows are not all finite")
    vals = [line["val_mae"] for line in history.lines]
    facts = {
        "precision": trainer_config.resolved_precision(),
        "n_params": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "epochs": len(vals),
        "best_epoch": int(np.argmin(vals)) + 1,
        "val_mae": min(vals),
        "train_steps": history.steps,
        "train_seconds": round(history.seconds, 2),
        "seconds_per_step": round(history.step_seconds / max(history.steps, 1), 5),
        "windows_per_second": round(len(split.test) / (time.monotonic() - started), 2),
        "peak_memory_mb": history.peak_memory_mb,
    }
    return Fitted(scorer.filled(), scorer.scores(), facts)


def _ended_before(last: Path, history: History, stop: EarlyStopping) -> bool:
    """Whether early stopping ended the training in an earlier launch; its history is restored."""
    if not last.exists():
        return False
    states = torch.load(last, weights_only=True, map_location="cpu")["callbacks"]
    if states[stop.state_key]["wait_count"] < stop.patience:
        return False
    history.load_state_dict(states[history.state_key])
    return True


def require_hidden(setting: Setting) -> None:
    """Checks that there is something to score.

    Raises:
        InputError: nothing is hidden in the validation or the test windows.
    """
    split = setting.split
    for part, starts in (("validation", split.validation), ("test", split.test)):
        if not setting.masked.held_out[split.steps(starts)].any():
            raise InputError(
                f"the mask hides no reading in the {part} windows of "
                f"{setting.masked.series.name}: raise mask.rate or use a longer series"
            )


def prepare(setting: Setting, scaling: str) -> tuple[Scaler, SeriesWindows]:
    """The scaler of the training steps, and the scaled series with nothing hidden in it."""
    masked, split = setting.masked, setting.split
    train = split.steps(split.train)
    scaler = fit_scaler(masked.visible_values[train], masked.visible[train], scaling)
    x = np.where(masked.visible, scaler.scale(masked.visible_values), np.float32(0))
    features = time_features(masked.series.time, setting.time_features)
    inputs, visible, clock = map(torch.from_numpy, (x, masked.visible, features))
    return scaler, SeriesWindows(inputs, visible, clock, split.window)


def _trainer(
    trainer_config: TrainerConfig, config: TrainingConfig, callbacks: list[pl.Callback]
) -> pl.Trainer:
    if trainer_config.threads is not None:
        torch.set_num_threads(trainer_config.threads)
    show = trainer_config.progress and sys.stderr.isatty()
    precision: Any = trainer_config.resolved_precision()
    with _quiet():
        return pl.Trainer(
            accelerator=trainer_config.accelerator,
            devices=1,
            precision=precision,
            max_epochs=trainer_config.max_epochs,
            gradient_clip_val=config.gradient_clip,
            callbacks=[*callbacks, RichProgressBar(leave=False)] if show else callbacks,
            enable_progress_bar=show,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what Lightning says about choices that were made on purpose."""
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            yield
        finally:
            logger.setLevel(before)
