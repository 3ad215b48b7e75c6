"""Training and inference of every gradient method: one Lightning module for all."""

import math
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from benchmarks.batches import Batch
from benchmarks.errors import InputError
from benchmarks.metrics import ErrorSums, WindowScorer, entry_errors
from benchmarks.scaling import Scaler
from benchmarks.schedules import schedule


class NonFiniteLossError(RuntimeError):
    """A loss, a validation error or a prediction became NaN or infinite."""


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
        if self.batch_size < 1:
            raise InputError(f"model.training.batch_size={self.batch_size} must be at least 1")
        if not self.learning_rate > 0:
            raise InputError(f"model.training.learning_rate={self.learning_rate} must be above 0")
        for probability in self.whiten:
            if not 0 < probability < 1:
                raise InputError(f"model.training.whiten has {probability}; it must be in (0, 1)")
        schedule(self.schedule)


class ImputationModule(pl.LightningModule):
    """Whitens, scales back and scores; the method itself is `network`.

    Args:
        network: `forward(x, observed, time_features)`, and `loss(…)` if the method has its own.
        config: how it is trained.
        scaler: original units to the network's and back.
        epochs: length of the learning-rate schedule.
        seed: of whitening and dropout; each epoch is a function of it, so a resumed run repeats
            an undisturbed one.
        scorer: holds the truth; the network never meets it.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        scaler: Scaler,
        epochs: int,
        seed: int,
        scorer: WindowScorer,
    ):
        super().__init__()
        self.network, self.config = network, config
        self.epochs, self.seed, self.scorer = epochs, seed, scorer
        self.validation_sums = ErrorSums()
        self.register_buffer("mean", torch.tensor(scaler.mean, dtype=torch.float32)[:, None])
        self.register_buffer("std", torch.tensor(scaler.std, dtype=torch.float32)[:, None])

    def on_train_epoch_start(self) -> None:
        """Makes the epoch's randomness and learning rate independent of what ran before."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch)
        factor = schedule(self.config.schedule)(self.current_epoch, self.epochs)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.config.learning_rate * factor

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one batch of which a random part was hidden.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        observed = whiten(batch.visible, self.config.whiten)
        x = torch.where(observed, batch.x, 0.0)
        loss = training_loss(self.network, x, observed, batch.time_features, batch.x, batch.visible)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch + 1}, batch "
                f"{index + 1}; a lower model.training.learning_rate (now "
                f"{self.config.learning_rate}) may help"
            )
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(x))
        return loss

    def predict(self, batch: Batch) -> Float[Tensor, "b t n"]:
        """Estimates in original units."""
        scaled = self.network(batch.x, batch.visible, batch.time_features).float()
        return (scaled * self.std + self.mean)[..., 0]

    def validation_step(self, batch: Batch) -> None:
        """Adds a batch to the sums of the validation windows."""
        steps = batch.starts.cpu()[:, None].numpy() + self.scorer.offsets
        prediction = self.predict(batch).cpu().numpy()
        errors = entry_errors(prediction, self.scorer.truth[steps], self.scorer.held_out[steps])
        self.validation_sums += errors.total()

    def on_validation_epoch_end(self) -> None:
        """MAE over the validation windows, in original units, "window" convention.

        Raises:
            NonFiniteLossError: it is NaN or infinite.
        """
        mae = float(self.validation_sums.scores()["mae"])
        self.validation_sums = ErrorSums()
        if not math.isfinite(mae):
            raise NonFiniteLossError(
                f"the validation error became {mae} in epoch {self.current_epoch + 1}: "
                "the predictions are not finite, or no hidden reading is in the validation windows "
                "that trainer.validation_stride leaves"
            )
        self.log("val_mae", mae, prog_bar=True)

    def test_step(self, batch: Batch) -> None:
        """Hands a batch's predictions to the scorer."""
        self.scorer.update(batch.starts.cpu().numpy(), self.predict(batch).cpu().numpy())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; the learning rate is set anew at the start of each epoch."""
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.Adam(
            parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )


def whiten(visible: Bool[Tensor, "b t n 1"], probabilities: list[float]) -> Bool[Tensor, "b t n 1"]:
    """Hides each visible entry with a probability that is drawn anew for each sample.

    Returns:
        True where the model may still look.
    """
    choice = torch.randint(len(probabilities), (len(visible), 1, 1, 1), device=visible.device)
    probability = torch.tensor(probabilities, device=visible.device)[choice]
    return visible & (torch.rand(visible.shape, device=visible.device) >= probability)


def training_loss(
    network: nn.Module,
    x: Float[Tensor, "b t n 1"],
    observed: Bool[Tensor, "b t n 1"],
    time_features: Float[Tensor, "b t f"],
    target: Float[Tensor, "b t n 1"],
    visible: Bool[Tensor, "b t n 1"],
) -> Float[Tensor, ""]:
    """The network's own loss, or the mean absolute error on the entries that were whitened."""
    own = getattr(network, "loss", None)
    if own is not None:
        loss: Tensor = own(x, observed, time_features, target, visible)
        return loss
    whitened = visible & ~observed
    error = torch.where(whitened, network(x, observed, time_features) - target, 0.0)
    return error.abs().sum() / whitened.sum().clamp(min=1)
