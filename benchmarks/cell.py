"""A cell of a sweep: the resolved configuration of one run, its key and its place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.errors import InputError
from benchmarks.fit import TrainerConfig
from benchmarks.rows import run_key
from benchmarks.training import TrainingConfig


@dataclass(frozen=True)
class Cell:
    """A resolved configuration (`conf/config.yaml`) as plain values."""

    name: str
    dataset: Mapping[str, Any]
    mask: Mapping[str, Any]
    model: Mapping[str, Any]
    trainer: TrainerConfig
    tracking: Mapping[str, Any]
    window: int
    seed: int
    mask_seed: int
    data_root: Path
    results_dir: Path
    save_predictions: bool

    def __post_init__(self) -> None:
        for name in ("seed", "mask_seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise InputError(f"{name}={value} must be a whole number from 0 on")
        if not isinstance(self.window, int) or self.window < 2:
            raise InputError(f"window={self.window} must be a whole number of at least 2 steps")
        self._check_rate()

    def _check_rate(self) -> None:
        """A rate is a number that the mask's generator takes, or is not there at all."""
        rate = self.mask["rate"]
        if "rate" not in self.mask["generator"]:
            if rate is not None:
                own = {k: v for k, v in self.mask["generator"].items() if k != "_target_"}
                raise InputError(
                    f"mask={self.mask['name']} has no rate (mask.rate={rate}); it is set by "
                    + ", ".join(f"mask.generator.{name}={value}" for name, value in own.items())
                )
        elif not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise InputError(f"mask.rate={rate} must lie between 0 and 1, both excluded")

    @property
    def experiment(self) -> Path:
        """Folder of the experiment's results."""
        return self.results_dir / self.name

    @property
    def training(self) -> TrainingConfig | None:
        """How a gradient method is trained; None for a closed form."""
        if "training" not in self.model:
            return None
        own = TrainingConfig(**self.model["training"])
        return replace(own, batch_size=self.trainer.batch_size or own.batch_size)

    def key(self, fingerprint: str) -> str:
        """The run key: only what determines the result is in it, so neither paths nor device."""
        training = self.training
        budget = asdict(self.trainer) | {"precision": self.trainer.resolved_precision()}
        for name in ("batch_size", "eval_batch_size", "accelerator", "threads", "progress"):
            del budget[name]
        return run_key(
            {
                "dataset": [self.dataset["name"], fingerprint],
                "graph": self.dataset["graph"] if "adjacency" in self.model["needs"] else None,
                "mask": self.mask,
                "mask_seed": self.mask_seed,
                "window": self.window,
                "network": self.model["network"],
                "time_features": self.model["time_features"],
                "training": asdict(training) if training else None,
                "budget": budget if training else None,
                "seed": None if self.model["deterministic"] else self.seed,
            }
        )

    def identity(self, key: str, fingerprint: str) -> dict[str, Any]:
        """The columns of a row that are known before the cell has run."""
        training, trainer = self.training, self.trainer
        budget = (
            f"{trainer.max_epochs} epochs x {trainer.batches_per_epoch} batches of "
            f"{training.batch_size}"
            if training
            else "closed form"
        )
        return {
            "key": key,
            "experiment": self.name,
            "model": self.model["name"],
            "label": self.model["label"],
            "dataset": self.dataset["name"],
            "title": self.dataset["title"],
            "unit": self.dataset["unit"],
            "pattern": self.mask["name"],
            "rate": self.mask["rate"],
            "protocol": self.mask["protocol"],
            "window": self.window,
            "mask_seed": self.mask_seed,
            "seed": None if self.model["deterministic"] else self.seed,
            "budget": budget,
            "dataset_fingerprint": fingerprint,
        }

    def plain(self) -> dict[str, Any]:
        """What was run, as plain values: without paths, and without the store's address."""
        local = ("data_root", "results_dir", "tracking", "save_predictions")
        return {name: value for name, value in asdict(self).items() if name not in local}


def describe(row: Mapping[str, Any]) -> str:
    """A cell in a few words, for messages."""
    seed = "" if row["seed"] is None else f" seed {row['seed']}"
    rate = "" if row["rate"] is None else f" {row['rate']:.0%}"
    return f"{row['model']} on {row['dataset']}, {row['pattern']}{rate}{seed}"
