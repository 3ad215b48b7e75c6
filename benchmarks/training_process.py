"""A training in one process, be it the only one or one of several that share it."""

import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from benchmarks.batches import Loader, OrderedBatches, SeriesWindows, Share, ShuffledBatches
from benchmarks.budgets import TrainerConfig, TrainingConfig
from benchmarks.calendar import time_features
from benchmarks.devices import Report, SharedScorer
from benchmarks.errors import InputError
from benchmarks.history import History
from benchmarks.methods import Setting
from benchmarks.scaling import Scaler, fit_scaler
from benchmarks.trainer import make_trainer
from benchmarks.training import ImputationModule

log = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
"""Checkpoints of the best epoch, which is tested, and of the last, where a training goes on."""


@dataclass(frozen=True)
class Job:
    """What all processes of a training are given.

    Attributes:
        network: the method.
        config: how the method is trained.
        setting: the masked series and its split.
        trainer: budget and hardware.
        folder: where checkpoints and `history.csv` are kept.
    """

    network: nn.Module
    config: TrainingConfig
    setting: Setting
    trainer: TrainerConfig
    folder: Path


class TrainingProcess:
    """What is trained, on which windows, and what is kept of it.

    Args:
        job: the same in every process.
        micro_batches: parts of a batch that are worked on one after the other.
        report: called with each epoch's line of the history.
    """

    def __init__(self, job: Job, micro_batches: int, report: Report):
        self.job, self.micro_batches, setting = job, micro_batches, job.setting
        scaler, windows = prepare(setting, job.config.scaling)
        self.scorer = SharedScorer(
            setting.masked.series.values, setting.masked.held_out, setting.split.window
        )
        self.module = ImputationModule(
            job.network, job.config, scaler, job.trainer.max_epochs, setting.seed, self.scorer
        )
        self.history = History(job.folder / "history.csv", report)
        at_epoch_end: Any = {"save_on_train_epoch_end": True, "enable_version_counter": False}
        best = ModelCheckpoint(job.folder, Path(BEST).stem, monitor="val_mae", **at_epoch_end)
        last = ModelCheckpoint(job.folder, Path(LAST).stem, **at_epoch_end)  # with best's state
        self.stop = EarlyStopping("val_mae", patience=job.config.patience, check_finite=False)
        callbacks = [self.history, self.stop, best, last]
        self.trainer = make_trainer(job.trainer, job.config, callbacks, micro_batches)
        self.windows = windows.to(self.trainer.strategy.root_device)

    def run(self) -> dict[str, Any]:
        """Trains, from the last epoch of an earlier launch if there was one; returns the facts."""
        job, split = self.job, self.job.setting.split
        batches = ShuffledBatches(
            split.train, job.config.batch_size, job.trainer.batches_per_epoch, job.setting.seed
        )
        states = _kept_states(job.folder)
        if not self._ended_before(states):
            self.trainer.fit(
                self.module,
                Loader(self.windows, batches, self.micro_batches),
                self._in_order(split.validation[:: job.trainer.validation_stride]),
                ckpt_path=None if states is None else job.folder / LAST,
                weights_only=True,
            )
        return self._facts()

    def test(self) -> None:
        """Predicts the test windows with the weights of the best epoch."""
        self.module.load_state_dict(_load(self.job.folder / BEST)["state_dict"])
        self.trainer.test(self.module, self._in_order(self.job.setting.split.test), verbose=False)

    def _ended_before(self, states: Mapping[str, Any] | None) -> bool:
        """Whether early stopping ended the training before; its history is restored then."""
        if states is None or states[self.stop.state_key]["wait_count"] < self.stop.patience:
            return False
        self.history.load_state_dict(states[self.history.state_key])
        return True

    def _in_order(self, starts: range) -> Loader:
        """This process's share of some windows, for an evaluation."""
        share = Share(self.trainer.global_rank, self.job.trainer.devices)
        part = starts[share.of(len(starts))]
        size = max(1, self.job.trainer.eval_batch_size // self.micro_batches)
        return Loader(self.windows, OrderedBatches(part, size))

    def _facts(self) -> dict[str, Any]:
        history, network = self.history, self.job.network
        vals = [line["val_mae"] for line in history.lines]
        return {
            "precision": self.job.trainer.resolved_precision(),
            "micro_batches": self.micro_batches,
            "n_params": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "epochs": len(vals),
            "best_epoch": int(np.argmin(vals)) + 1,
            "val_mae": min(vals),
            "train_steps": history.steps,
            "train_seconds": round(history.seconds, 2),
            "seconds_per_step": round(history.step_seconds / max(history.steps, 1), 5),
            "peak_memory_mb": history.peak_memory_mb,
        }


def _kept_states(folder: Path) -> Mapping[str, Any] | None:
    """What the callbacks noted in the last epoch of an earlier launch; None to begin anew.

    A power cut can leave a checkpoint damaged; a training that has one begins anew, and says so.
    """
    if not (folder / LAST).exists():
        return None
    try:
        _, last = [_load(folder / name) for name in (BEST, LAST)]
    except (RuntimeError, EOFError, FileNotFoundError, pickle.UnpicklingError) as error:
        log.warning("%s: a checkpoint is damaged, the training begins anew: %s", folder, error)
        for name in (BEST, LAST):
            (folder / name).unlink(missing_ok=True)
        return None
    states: Mapping[str, Any] = last["callbacks"]
    return states


def _load(path: Path) -> Mapping[str, Any]:
    checkpoint: Mapping[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return checkpoint


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
