"""Trains a gradient method with Lightning and scores its test windows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from benchmarks.batches import Loader, OrderedBatches, SeriesWindows, Share, ShuffledBatches
from benchmarks.budgets import TrainerConfig, TrainingConfig
from benchmarks.calendar import time_features
from benchmarks.devices import Report, SharedScorer, require_shares, run_on_devices
from benchmarks.errors import InputError
from benchmarks.history import History
from benchmarks.methods import Setting
from benchmarks.metrics import Scores
from benchmarks.scaling import Scaler, fit_scaler
from benchmarks.trainer import make_trainer, quiet
from benchmarks.training import ImputationModule, NonFiniteLossError


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
    report: Report,
) -> Fitted:
    """Trains `network`, goes back to its best epoch and scores every test window.

    A training that was interrupted goes on from its last epoch, with the same result as one that
    was not, and may do so on another number of devices. Each test window is predicted once, and
    its prediction is added to running sums and forgotten.

    Args:
        network: the method; where several processes train copies of it, it stays as it is.
        config: how the method is trained.
        setting: the masked series and its split.
        trainer_config: budget and hardware.
        folder: where checkpoints and `history.csv` are kept.
        report: called with each epoch's line of the history.

    Raises:
        InputError: nothing is hidden in the validation or the test windows, or there are more
            devices than GPUs or than windows to share out.
        NonFiniteLossError: a loss, a validation error or a prediction is NaN or infinite.
    """
    require_hidden(setting)
    if trainer_config.threads is not None:
        torch.set_num_threads(trainer_config.threads)
    job = partial(_fit, network, config, setting, trainer_config, folder)
    if trainer_config.devices == 1:
        return job(report)
    split = setting.split
    shared = {
        "in a batch": min(config.batch_size, len(split.train)),
        "for validation": len(split.validation[:: trainer_config.validation_stride]),
        "for the test": len(split.test),
    }
    require_shares(trainer_config.devices, shared, trainer_config.on_gpu)
    return run_on_devices(trainer_config.devices, job, report)


def _fit(
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    folder: Path,
    report: Report,
) -> Fitted:
    """The part of `fit` that each process runs."""
    masked, split = setting.masked, setting.split
    scaler, windows = prepare(setting, config.scaling)
    scorer = SharedScorer(masked.series.values, masked.held_out, split.window)
    module = ImputationModule(
        network, config, scaler, trainer_config.max_epochs, setting.seed, scorer
    )
    history = History(folder / "history.csv", report)
    at_epoch_end: Any = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, "best", monitor="val_mae", **at_epoch_end)
    last = ModelCheckpoint(folder, "last", **at_epoch_end)  # after best: it carries best's state
    stop = EarlyStopping("val_mae", patience=config.patience, check_finite=False)
    trainer = make_trainer(trainer_config, config, [history, stop, best, last])
    windows = windows.to(trainer.strategy.root_device)
    share = Share(trainer.global_rank, trainer_config.devices)
    batches = ShuffledBatches(
        split.train, config.batch_size, trainer_config.batches_per_epoch, setting.seed
    )
    validation, test = (
        OrderedBatches(starts[share.of(len(starts))], trainer_config.eval_batch_size)
        for starts in (split.validation[:: trainer_config.validation_stride], split.test)
    )
    resume = folder / "last.ckpt"
    with quiet():
        if not _ended_before(resume, history, stop):
            trainer.fit(
                module,
                Loader(windows, batches),
                Loader(windows, validation),
                ckpt_path=resume if resume.exists() else None,
                weights_only=True,
            )
        checkpoint = torch.load(folder / "best.ckpt", weights_only=True, map_location="cpu")
        module.load_state_dict(checkpoint["state_dict"])
        started = time.monotonic()
        trainer.test(module, Loader(windows, test), verbose=False)
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
