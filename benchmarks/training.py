"""Training and inference of every gradient method: one Lightning module for all."""

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from benchmarks.batches import Batch, Share
from benchmarks.budgets import TrainingConfig
from benchmarks.devices import SharedScorer
from benchmarks.metrics import ErrorSums, entry_errors
from benchmarks.scaling import Scaler
from benchmarks.schedules import schedule

SEED_STRIDE = 1_000_003
"""Between the seeds of two trainings, so that their epochs have no seed in common."""

PROCESS_STRIDE = 10_007
"""Between the seeds of two processes of one training in one epoch."""


class NonFiniteLossError(RuntimeError):
    """A loss, a validation error or a prediction became NaN or infinite."""


class ImputationModule(pl.LightningModule):
    """Whitens, scales back and scores; the method itself is `network`.

    On several devices each process trains on its part of each batch and evaluates its part of the
    windows. What they then have to agree on is added up over the processes.

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
        scorer: SharedScorer,
    ):
        super().__init__()
        self.network, self.config = network, config
        self.epochs, self.seed, self.scorer = epochs, seed, scorer
        self.validation_sums = ErrorSums()
        self.whitening: torch.Generator | None = None  # None = the default one
        self.observed = torch.empty(0)  # of the batch in work: True where the network may look
        self.register_buffer("mean", torch.tensor(scaler.mean, dtype=torch.float32)[:, None])
        self.register_buffer("std", torch.tensor(scaler.std, dtype=torch.float32)[:, None])

    @property
    def share(self) -> Share:
        """Which part of the work is for this process."""
        return Share(self.global_rank, self.trainer.world_size)

    def on_train_epoch_start(self) -> None:
        """Makes the epoch's randomness and learning rate independent of what ran before.

        Several processes draw the same whitening, for whole batches, and each its own dropout: two
        windows of a batch must not lose the same units. With one process both come from one
        generator, so that the whitening is that of one process as long as the network draws
        nothing, and with dropout in the first batch of each epoch.
        """
        seed = self.seed * SEED_STRIDE + self.current_epoch
        share = self.share
        if share.processes == 1:
            torch.manual_seed(seed)
        else:
            self.whitening = torch.Generator(self.device).manual_seed(seed)
            torch.manual_seed(seed + PROCESS_STRIDE * (share.rank + 1))
        factor = schedule(self.config.schedule)(self.current_epoch, self.epochs)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.config.learning_rate * factor

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of this process's part of one batch of which a random part was hidden.

        Args:
            batch: the whole batch, also where several processes or micro-batches share it.
            index: its number in the epoch; each micro-batch counts.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """
        parts = self.trainer.accumulate_grad_batches
        if index % parts == 0:
            self.observed = whiten(batch.visible, self.config.whiten, self.whitening)
        whole = self.observed
        share = self.share.part(index % parts, parts)
        part = share.of(len(whole))
        own, observed = batch[part], whole[part]
        x = torch.where(observed, own.x, 0.0)
        loss = training_loss(self.network, x, observed, own.time_features, own.x, own.visible)
        if share.processes > 1:
            loss = loss * loss_weight(self.network, whole, batch.visible, share)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the training loss became {loss.item()} in epoch {self.current_epoch + 1}, batch "
                f"{index // parts + 1}; a lower model.training.learning_rate (now "
                f"{self.config.learning_rate}) may help"
            )
        self.log(
            "loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(whole),
            sync_dist=share.processes > 1,
        )  # fmt: skip
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
        sums = ErrorSums(*self._added_up(np.array(astuple(self.validation_sums))).tolist())
        mae = float(sums.scores()["mae"])
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

    def on_test_epoch_end(self) -> None:
        """Completes the scorer with the windows of the other processes."""
        self.scorer.add_up(self._added_up)

    def _added_up(self, sums: np.ndarray) -> np.ndarray:
        """The same in each process: element by element the sum over all of them."""
        if self.share.processes == 1:
            return sums
        total = torch.from_numpy(sums).to(self.device)
        return self.trainer.strategy.reduce(total, reduce_op="sum").cpu().numpy()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; the learning rate is set anew at the start of each epoch."""
        return make_optimiser(self.network, self.config)


def make_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam over what is trained."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def whiten(
    visible: Bool[Tensor, "b t n 1"],
    probabilities: list[float],
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "b t n 1"]:
    """Hides each visible entry with a probability that is drawn anew for each sample.

    Args:
        visible: True where a method may look.
        probabilities: one is drawn for each sample.
        generator: what draws; the default one where not given.

    Returns:
        True where the model may still look.
    """
    draw: Any = {"device": visible.device, "generator": generator}
    choice = torch.randint(len(probabilities), (len(visible), 1, 1, 1), **draw)
    probability = torch.tensor(probabilities, device=visible.device)[choice]
    return visible & (torch.rand(visible.shape, **draw) >= probability)


def loss_weight(
    network: nn.Module,
    observed: Bool[Tensor, "b t n 1"],
    visible: Bool[Tensor, "b t n 1"],
    share: Share,
) -> Float[Tensor, ""]:
    """What the loss of a part of a batch is multiplied by before the processes average gradients.

    A loss is a mean over labels, and a mean of the parts' means is not the mean of the batch: each
    part has another number of labels. It is once the parts are weighted by their labels. Exact, up
    to the order of additions, for the suite's own loss, whose labels are the whitened entries, and
    for the losses of methods that take every visible entry as a label. For those that have other
    terms (the whitened entries, a Fourier or a consistency term) the parts are weighted as if all
    visible entries were labels: an approximation.

    Args:
        network: may have a loss of its own.
        observed: True where the model may look, of the whole batch.
        visible: True where labels may be used, of the whole batch.
        share: which part of the batch the loss is of.
    """
    labels = visible if hasattr(network, "loss") else visible & ~observed
    own = labels[share.of(len(labels))].sum()
    return share.processes * own / labels.sum().clamp(min=1)


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
