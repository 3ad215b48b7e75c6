"""A cell of a sweep: the resolved configuration of one run, its key and its place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.budgets import TrainerConfig, TrainingConfig, WindowedTraining
from benchmarks.errors import InputError
from benchmarks.rows import run_key

PROTOCOLS = ("grin", "calibrated")
"""How a mask can be drawn: by the published generator, or so that the rate is met."""


@dataclass(frozen=True)
class Cell:
    """A resolved configuration (`conf/config.yaml`) as plain values."""

    name: str
    dataset: Mapping[str, Any]
    mask: Mapping[str, Any]
    model: Mapping[str, Any]
    trainer: TrainerConfig
    tracking: Mapping[str, Any]
    protocol: str | None
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
        self._check_protocol()

    def _check_protocol(self) -> None:
        """The mask has the protocol that is asked for, and it takes a rate or has none."""
        absent = [key for key in ("name", "rate", "needs") if key not in self.mask]
        choices = [protocol for protocol in PROTOCOLS if protocol in self.mask]
        if absent or not choices:
            lacking = ", ".join(absent) or "a generator: " + " or ".join(PROTOCOLS)
            raise InputError(f"mask={self.mask.get('name')} lacks {lacking}")
        name, rate = self.mask["name"], self.mask["rate"]
        if self.protocol is not None and self.protocol not in choices:
            raise InputError(
                f"protocol={self.protocol} is unknown to mask={name}; choose from "
                + ", ".join(choices)
            )
        if "rate" not in self.generator:
            if rate is not None:
                own = {k: v for k, v in self.generator.items() if k != "_target_"}
                raise InputError(
                    f"mask={name} has no rate under protocol={self.resolved_protocol} "
                    f"(mask.rate={rate}); it is set by "
                    + ", ".join(
                        f"mask.{self.resolved_protocol}.{key}={value}" for key, value in own.items()
                    )
                )
        elif not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise InputError(f"mask.rate={rate} must lie between 0 and 1, both excluded")

    @property
    def resolved_protocol(self) -> str:
        """The protocol asked for, or the first that the mask has."""
        return self.protocol or next(name for name in PROTOCOLS if name in self.mask)

    @property
    def generator(self) -> Mapping[str, Any]:
        """What draws the mask."""
        generator: Mapping[str, Any] = self.mask[self.resolved_protocol]
        return generator

    @property
    def experiment(self) -> Path:
        """Folder of the experiment's results."""
        return self.results_dir / self.name

    @property
    def training(self) -> TrainingConfig | WindowedTraining | None:
        """How a gradient or windowed method is trained; None for a closed form."""
        if "training" not in self.model:
            return None
        kind = WindowedTraining if self.model["kind"] == "windowed" else TrainingConfig
        own = kind(**self.model["training"])
        return replace(own, batch_size=self.trainer.batch_size or own.batch_size)

    def key(self, fingerprint: str, mask_facts: Mapping[str, Any] | None = None) -> str:
        """The run key: only what determines the result is in it, so neither paths nor devices.

        Args:
            fingerprint: of the dataset.
            mask_facts: what the mask is drawn from and the fingerprint does not cover.
        """
        training = self.training
        budget = asdict(self.trainer) | {"precision": self.trainer.resolved_precision()}
        for name in ("batch_size", "accelerator", "devices", "threads", "progress"):
            del budget[name]
        if isinstance(training, WindowedTraining):
            budget["precision"] = "32-true"  # whatever the device
        else:
            del budget["eval_batch_size"]  # a windowed method may sample batch by batch
        return run_key(
            {
                "dataset": [self.dataset["name"], fingerprint],
                "graph": self.dataset["graph"] if "adjacency" in self.model["needs"] else None,
                "mask": {
                    "name": self.mask["name"],
                    "protocol": self.resolved_protocol,
                    "rate": self.mask["rate"],
                    "generator": self.generator,
                    **(mask_facts or {}),
                },
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
            "protocol": self.resolved_protocol,
            "window": self.window,
            "mask_seed": self.mask_seed,
            "seed": None if self.model["deterministic"] else self.seed,
            "budget": budget,
            "dataset_fingerprint": fingerprint,
        }

    def plain(self) -> dict[str, Any]:
        """What was run, as plain values: without paths, and without the store's address."""
        local = ("data_root", "results_dir", "tracking", "save_predictions")
        what = asdict(self) | {"protocol": self.resolved_protocol}
        return {name: value for name, value in what.items() if name not in local}


def describe(row: Mapping[str, Any]) -> str:
    """A cell in a few words, for messages."""
    seed = "" if row["seed"] is None else f" seed {row['seed']}"
    return f"{row['model']} on {row['dataset']}, {pattern(row)}{seed}"


def pattern(row: Mapping[str, Any]) -> str:
    """What is hidden, in a few words."""
    rate = "" if row["rate"] is None else f" {row['rate']:.0%}"
    return f"{row['pattern']}{rate}"
