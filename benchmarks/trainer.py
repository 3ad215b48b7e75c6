"""The Lightning trainer, from a training's budget and hardware."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.strategies import DDPStrategy

from benchmarks.budgets import TrainerConfig, TrainingConfig

LOGGERS = ("pytorch_lightning", "lightning_fabric")


def make_trainer(
    trainer_config: TrainerConfig,
    config: TrainingConfig,
    callbacks: list[pl.Callback],
    micro_batches: int = 1,
) -> pl.Trainer:
    """The trainer of this process; also sets the number of its threads.

    Args:
        trainer_config: budget and hardware.
        config: how the method is trained.
        callbacks: in the order in which they are called.
        micro_batches: parts of a batch, whose gradients are added up.
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
            accumulate_grad_batches=micro_batches,
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
