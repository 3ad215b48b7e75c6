"""Trains a gradient method with Lightning and scores its test windows."""

import time
from collections.abc import Callable, Mapping
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
from benchmarks.devices import Report, Result, SharedScorer, require_shares, run_on_devices
from benchmarks.errors import InputError
from benchmarks.history import History
from benchmarks.methods import Setting
from benchmarks.metrics import Scores
from benchmarks.micro_batches import within_memory
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
        report: called with each epoch's line of the history; what it raises ends the training.

    Raises:
        InputError: nothing is hidden in the validation or the test windows, or there are more
            devices than GPUs or than windows to share out.
        NonFiniteLossError: a loss, a validation error or a prediction is NaN or infinite.
    """
    job = partial(_fit, network, config, setting, trainer_config, folder)
    return _on_devices(job, network, config, setting, trainer_config, report)


def train(
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Trains `network` as `fit` does, and predicts no test window.

    Arguments and errors are those of `fit`.

    Returns:
        What the training cost and the best validation error, by column of a row.
    """
    job = partial(_train, network, config, setting, trainer_config, folder)
    return _on_devices(job, network, config, setting, trainer_config, report)


def _on_devices(
    job: Callable[[int, Report], Result],
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    report: Report,
) -> Result:
    """Runs `job` here, or in a process for each device, in micro-batches that memory allows."""
    require_hidden(setting)
    if trainer_config.threads is not None:
        torch.set_num_threads(trainer_config.threads)
    split, devices = setting.split, trainer_config.devices
    batch = min(config.batch_size, len(split.train))
    if devices == 1:
        return within_memory(lambda parts: job(parts, report), network, batch)
    shared = {
        "in a batch": batch,
        "for validation": len(split.validation[:: trainer_config.validation_stride]),
        "for the test": len(split.test),
    }
    require_shares(devices, shared, trainer_config.on_gpu)
    return within_memory(
        lambda parts: run_on_devices(devices, partial(job, parts), report),
        network,
        batch // devices,
    )


def _train(
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    folder: Path,
    micro_batches: int,
    report: Report,
) -> dict[str, Any]:
    """The part of `train` that each process runs."""
    with quiet():
        return _Training(
            network, config, setting, trainer_config, folder, micro_batches, report
        ).run()


def _fit(
    network: nn.Module,
    config: TrainingConfig,
    setting: Setting,
    trainer_config: TrainerConfig,
    folder: Path,
    micro_batches: int,
    report: Report,
) -> Fitted:
    """The part of `fit` that each process runs."""
    training = _Training(network, config, setting, trainer_config, folder, micro_batches, report)
    scorer = training.module.scorer
    with quiet():
        facts = training.run()
        started = time.monotonic()
        training.test()
    if not np.isfinite(scorer.filled()[scorer.covered]).all():
        raise NonFiniteLossError("the predictions for the test windows are not all finite")
    rate = len(setting.split.test) / (time.monotonic() - started)
    facts |= {
        "windows_per_second": round(rate, 2),
        "peak_memory_mb": training.history.peak_memory_mb,
    }
    return Fitted(scorer.filled(), scorer.scores(), facts)


class _Training:
    """A training in one process: what is trained, on which windows, and what is kept of it."""

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        setting: Setting,
        trainer_config: TrainerConfig,
        folder: Path,
        micro_batches: int,
        report: Report,
    ):
        masked, self.split = setting.masked, setting.split
        self.config, self.trainer_config, self.folder = config, trainer_config, folder
        self.seed, self.micro_batches = setting.seed, micro_batches
        scaler, windows = prepare(setting, config.scaling)
        scorer = SharedScorer(masked.series.values, masked.held_out, self.split.window)
        self.module = ImputationModule(
            network, config, scaler, trainer_config.max_epochs, setting.seed, scorer
        )
        self.history = History(folder / "history.csv", report)
        at_epoch_end: Any = {"save_on_train_epoch_end": True, "enable_version_counter": False}
        best = ModelCheckpoint(folder, "best", monitor="val_mae", **at_epoch_end)
        last = ModelCheckpoint(folder, "last", **at_epoch_end)  # after best: carries best's state
        self.stop = EarlyStopping("val_mae", patience=config.patience, check_finite=False)
        callbacks = [self.history, self.stop, best, last]
        self.trainer = make_trainer(trainer_config, config, callbacks, micro_batches)
        self.windows = windows.to(self.trainer.strategy.root_device)

    def run(self) -> dict[str, Any]:
        """Trains, from the last epoch of an earlier launch if there was one; returns the facts."""
        batches = ShuffledBatches(
            self.split.train,
            self.config.batch_size,
            self.trainer_config.batches_per_epoch,
            self.seed,
        )
        validation = self.split.validation[:: self.trainer_config.validation_stride]
        resume = self.folder / "last.ckpt"
        if not _ended_before(resume, self.history, self.stop):
            self.trainer.fit(
                self.module,
                Loader(self.windows, batches, self.micro_batches),
                self._in_order(validation),
                ckpt_path=resume if resume.exists() else None,
                weights_only=True,
            )
        return self._facts()

    def test(self) -> None:
        """Predicts the test windows with the weights of the best epoch."""
        checkpoint = torch.load(self.folder / "best.ckpt", weights_only=True, map_location="cpu")
        self.module.load_state_dict(checkpoint["state_dict"])
        self.trainer.test(self.module, self._in_order(self.split.test), verbose=False)

    def _in_order(self, starts: range) -> Loader:
        """This process's share of some windows, for an evaluation."""
        share = Share(self.trainer.global_rank, self.trainer_config.devices)
        part = starts[share.of(len(starts))]
        size = max(1, self.trainer_config.eval_batch_size // self.micro_batches)
        return Loader(self.windows, OrderedBatches(part, size))

    def _facts(self) -> dict[str, Any]:
        history, network = self.history, self.module.network
        vals = [line["val_mae"] for line in history.lines]
        return {
            "precision": self.trainer_config.resolved_precision(),
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
