"""How methods are trained and on what, as validated values; importing it loads no torch."""

from dataclasses import dataclass, field

from benchmarks.errors import InputError
from benchmarks.gpus import may_have_gpu
from benchmarks.schedules import schedule

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
        if self.accelerator == "cpu" or not may_have_gpu():
            return False
        import torch

        return torch.cuda.is_available()

    def resolved_precision(self) -> str:
        """What "auto" stands for on this machine; it is part of the run key."""
        if self.precision != "auto":
            return self.precision
        if not self.on_gpu:
            return "32-true"
        import torch

        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


@dataclass(frozen=True)
class TrainingConfig:
    """How a method is trained; the values come from its paper (`conf/model/*.yaml`).

    `whiten` are probabilities, one drawn for each sample, with which visible entries are hidden
    from the model during training.
    """

    batch_size: int
    learning_rate: float
    whiten: list[float] = field(default_factory=lambda: [0.2, 0.5, 0.8])
    weight_decay: float = 0.0
    gradient_clip: float | None = 5.0
    schedule: str = "cosine"
    patience: int = 20
    scaling: str = "global"

    def __post_init__(self) -> None:
        _check(self)
        if not self.whiten:
            raise InputError("model.training.whiten is empty; it needs a probability in (0, 1)")
        for probability in self.whiten:
            if not 0 < probability < 1:
                raise InputError(f"model.training.whiten has {probability}; it must be in (0, 1)")
        schedule(self.schedule)


@dataclass(frozen=True)
class WindowedTraining:
    """How a windowed method is trained (`training:` in its `conf/model/*.yaml`)."""

    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    patience: int = 20
    scaling: str = "global"

    def __post_init__(self) -> None:
        _check(self)


def _check(training: TrainingConfig | WindowedTraining) -> None:
    for name in ("batch_size", "patience"):
        if getattr(training, name) < 1:
            raise InputError(f"model.training.{name}={getattr(training, name)} must be at least 1")
    if not training.learning_rate > 0:
        raise InputError(f"model.training.learning_rate={training.learning_rate} must be above 0")
