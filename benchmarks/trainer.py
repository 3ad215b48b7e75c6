"""Budget and hardware of a training, and the Lightning trainer made from them."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.strategies import DDPStrategy

from benchmarks.errors import InputError
from benchmarks.training import TrainingConfig

CHOICES = {
    "precision": ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true"),
    "accelerator": ("auto", "cpu", "gpu"),
}
"""Values of `trainer.precision` and `trainer.accelerator`."""


LOGGERS = ("pytorch_lightning", "lightning_fabric")


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
    devices: int = 1

    def __post_init__(self) -> None:
        for name in ("max_epochs", "batches_per_epoch", "validation_stride", "eval_batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"trainer.{name}={getattr(self, name)} must be at least 1")
        if type(self.devices) is not int or self.devices < 1:
            raise InputError(f"trainer.devices={self.devices} must be a whole number from 1 on")
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


def make_trainer(
    trainer_config: TrainerConfig, config: TrainingConfig, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """The trainer of this process; also sets the number of its threads.

    Args:
        trainer_config: budget and hardware.
        config: how the method is trained.
        callbacks: in the order in which they are called.
    """
    devices = trainer_config.devices
    if trainer_config.threads is not None:
        torch.set_num_threads(trainer_config.threads)
    elif devices > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    show = trainer_config.progress and sys.stderr.isatty()
    precision: Any = trainer_config.resolved_precision()
    with quiet():
        return pl.Trainer(
            accelerator=trainer_config.accelerator,
            devices=devices,
            strategy="auto" if devices == 1 else _data_parallel(),
            use_distributed_sampler=False,
            precision=precision,
            max_epochs=trainer_config.max_epochs,
            gradient_clip_val=config.gradient_clip,
            callbacks=[*callbacks, RichProgressBar(leave=False)] if show else callbacks,
            enable_progress_bar=show,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )


def _data_parallel() -> DDPStrategy:
    """Lightning's data-parallel strategy within a process that `run_on_devices` has started.

    It talks over NCCL on GPUs and over gloo on CPUs. Parameters that a batch does not reach are
    looked for, since some methods have such. Buffers are not copied from process to process before
    each pass: in an evaluation the processes need not have the same number of batches, and no
    method of the suite has buffers that depend on the windows.
    """
    return DDPStrategy(
        cluster_environment=LightningEnvironment(),
        find_unused_parameters=True,
        broadcast_buffers=False,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what Lightning says about choices that were made on purpose."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for name in LOGGERS:
            warnings.filterwarnings("ignore", module=name)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
