"""Trains a gradient method with Lightning and scores its test windows."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.budgets import TrainerConfig, TrainingConfig
from benchmarks.devices import Report, Result, require_shares, run_on_devices
from benchmarks.methods import Setting
from benchmarks.metrics import Scores
from benchmarks.micro_batches import within_memory
from benchmarks.trainer import quiet
from benchmarks.training import NonFiniteLossError
from benchmarks.training_process import Job, TrainingProcess, require_hidden


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
    return _on_devices(_fit, Job(network, config, setting, trainer_config, folder), report)


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
    return _on_devices(_train, Job(network, config, setting, trainer_config, folder), report)


def _on_devices(work: Callable[[Job, int, Report], Result], job: Job, report: Report) -> Result:
    """Works here, or in a process for each device, in micro-batches that memory allows."""
    require_hidden(job.setting)
    if job.trainer.threads is not None:
        torch.set_num_threads(job.trainer.threads)
    split, devices = job.setting.split, job.trainer.devices
    batch = min(job.config.batch_size, len(split.train))
    if devices == 1:
        return within_memory(lambda parts: work(job, parts, report), job.network, batch)
    shared = {
        "in a batch": batch,
        "for validation": len(split.validation[:: job.trainer.validation_stride]),
        "for the test": len(split.test),
    }
    require_shares(devices, shared, job.trainer.on_gpu)
    return within_memory(
        lambda parts: run_on_devices(devices, partial(work, job, parts), report),
        job.network,
        batch // devices,
    )


def _train(job: Job, micro_batches: int, report: Report) -> dict[str, Any]:
    """The part of `train` that each process runs."""
    with quiet():
        return TrainingProcess(job, micro_batches, report).run()


def _fit(job: Job, micro_batches: int, report: Report) -> Fitted:
    """The part of `fit` that each process runs."""
    training = TrainingProcess(job, micro_batches, report)
    scorer = training.scorer
    with quiet():
        facts = training.run()
        started = time.monotonic()
        training.test()
    if not np.isfinite(scorer.filled()[scorer.covered]).all():
        raise NonFiniteLossError("the predictions for the test windows are not all finite")
    rate = len(job.setting.split.test) / (time.monotonic() - started)
    facts |= {
        "windows_per_second": round(rate, 2),
        "peak_memory_mb": training.history.peak_memory_mb,
    }
    return Fitted(scorer.filled(), scorer.scores(), facts)
