"""The course of a training, epoch by epoch."""

import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.atomic import write_text_atomically
from benchmarks.machine import peak_memory_mb

FIELDS = ("epoch", "loss", "val_mae", "learning_rate", "seconds")
"""Columns of `history.csv`: `loss` is scaled, `val_mae` in original units, "window" convention."""


class History(pl.Callback):
    """One line per epoch, kept in the checkpoint and in `history.csv`.

    On several devices each process keeps the lines, and the first writes and reports them; memory
    and times are those of the first.
    """

    def __init__(self, path: Path, report: Callable[[Mapping[str, float]], None]):
        self.path, self.report = path, report
        self.lines: list[dict[str, float]] = []
        self.steps, self.step_seconds = 0, 0.0
        self._before, self._started = 0.0, time.monotonic()
        self._batch_started = 0.0
        self._peak_before, self._on_gpu = 0.0, False

    @property
    def seconds(self) -> float:
        """Time spent on training and validation, that of earlier launches included."""
        return self._before + time.monotonic() - self._started

    @property
    def peak_memory_mb(self) -> float:
        """Peak memory, that of earlier launches included."""
        return max(self._peak_before, peak_memory_mb(self._on_gpu))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries."""
        return {
            "lines": list(self.lines),
            "steps": self.steps,
            "step_seconds": self.step_seconds,
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where a checkpoint stopped."""
        self.lines = list(state_dict["lines"])
        self.steps, self.step_seconds = state_dict["steps"], state_dict["step_seconds"]
        self._before, self._started = state_dict["seconds"], time.monotonic()
        self._peak_before = state_dict.get("peak_memory_mb", 0.0)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Notes whose memory counts."""
        self._on_gpu = trainer.strategy.root_device.type == "cuda"

    def on_train_batch_start(self, *_: Any) -> None:
        """Starts the clock of a step."""
        self._batch_started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stops the clock of a step, of which each micro-batch is a part."""
        self.steps += (index + 1) % trainer.accumulate_grad_batches == 0
        self.step_seconds += time.monotonic() - self._batch_started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes the epoch and rewrites the file, before the epoch's checkpoint is written."""
        metrics = trainer.callback_metrics
        line = {
            "epoch": trainer.current_epoch + 1,
            "loss": float(metrics["loss"]),
            "val_mae": float(metrics["val_mae"]),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": round(self.seconds, 2),
        }
        self.lines.append(line)
        if not trainer.is_global_zero:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.lines)
        write_text_atomically(self.path, text.getvalue())
        self.report(line)
