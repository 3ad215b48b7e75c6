"""rGAIN: a recurrent generator fills the gaps, a recurrent discriminator looks for them.

Baseline of Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series
Imputation by Graph Neural Networks". ICLR 2022. arXiv:2108.00298; after Jinsung Yoon, James Jordon,
Mihaela van der Schaar. "GAIN: Missing Data Imputation using Generative Adversarial Nets". ICML
2018. arXiv:1806.02920.

Parameters bear the published names; a published state dict loads as it is. The generator and the
discriminator need no optimiser each. `loss` is the sum of both losses, built so that each reaches
its own network alone: the generator's sees the discriminator frozen, the discriminator's sees the
generator's output detached. Adam treats parameters one by one and leaves those without a gradient
as they are, so one Adam on that sum takes the same steps as two on the parts.

Deviations from the published baseline:

* the five noise draws that an imputation is the mean of are fixed, so that it is a function of its
  input; training draws anew;
* the noise cannot be switched off (the published switch fails unless its width is 0).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from baselines.rgain_networks import Discriminator, Generated, Generator

NOISE_SCALE = 0.1  # noise is uniform on [0, 0.1)
HINT_RATE = 0.7  # share of the mask that the discriminator is told
NOISE_SEED = 0  # of the draws for imputation


class RGAIN(nn.Module):
    """Recurrent generative adversarial imputation."""

    batches: Tensor

    def __init__(
        self,
        n_nodes: int,
        d_hidden: int = 128,
        d_noise: int = 4,
        dropout: float = 0.2,
        reconstruction_weight: float = 20.0,
        generator_every: int = 3,
        n_draws: int = 5,
    ) -> None:
        """Build both networks.

        Args:
            n_nodes: sensors of the network.
            d_hidden: width of the recurrent states.
            d_noise: noise channels of the generator.
            dropout: before both readouts.
            reconstruction_weight: weight of the generator's error against its deceit.
            generator_every: batches from one update of the generator to the next.
            n_draws: noise draws that an imputation is the mean of.
        """
        super().__init__()
        self.d_noise, self.n_draws = d_noise, n_draws
        self.reconstruction_weight, self.generator_every = reconstruction_weight, generator_every
        self.generator = Generator(n_nodes, d_hidden, d_noise, dropout)
        self.discriminator = Discriminator(n_nodes, d_hidden, dropout)
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.register_load_state_dict_pre_hook(_count_from_zero)  # type: ignore[no-untyped-call]

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Impute every entry: the mean over fixed noise draws.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: not used.
        """
        batch, steps = x.shape[:2]
        draws = torch.rand(
            (self.n_draws, 1, steps, self.d_noise),
            generator=torch.Generator().manual_seed(NOISE_SEED),
        )
        noise = (NOISE_SCALE * draws.to(x)).expand(-1, batch, -1, -1).flatten(0, 1)
        series, seen = (a.squeeze(-1).repeat(self.n_draws, 1, 1) for a in (x, observed))
        merged = self.generator(series, seen, noise).merged
        return merged.view(self.n_draws, *x.shape).mean(0)

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """The discriminator's loss and, when it is its turn, the generator's.

        In training the generator's turn is every `generator_every`-th batch, the first included;
        in evaluation it is always.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: not used.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        x, observed, target, visible = (a.squeeze(-1) for a in (x, observed, target, visible))
        noise = NOISE_SCALE * torch.rand((*x.shape[:2], self.d_noise), device=x.device).to(x)
        told = torch.rand(x.shape, device=x.device) < HINT_RATE
        turn = not self.training or int(self.batches) % self.generator_every == 0
        if self.training:
            self.batches += 1
        with torch.set_grad_enabled(turn and torch.is_grad_enabled()):
            generated = self.generator(x, observed, noise)
        completed, hint = x.where(observed, generated.merged), mask_hint(observed, told).to(x)
        loss = self.discriminator_loss(completed, observed, hint)
        if turn:
            loss = loss + self.generator_loss(generated, completed, observed, hint, target, visible)
        return loss

    def discriminator_loss(
        self,
        completed: Float[Tensor, "b t n"],
        observed: Bool[Tensor, "b t n"],
        hint: Float[Tensor, "b t n"],
    ) -> Float[Tensor, ""]:
        """How badly the discriminator tells readings from estimates; reaches it alone."""
        logits = self.discriminator(completed.detach(), hint)
        return binary_cross_entropy_with_logits(logits, observed.to(logits.dtype))

    def generator_loss(
        self,
        generated: Generated,
        completed: Float[Tensor, "b t n"],
        observed: Bool[Tensor, "b t n"],
        hint: Float[Tensor, "b t n"],
        target: Float[Tensor, "b t n"],
        visible: Bool[Tensor, "b t n"],
    ) -> Float[Tensor, ""]:
        """The generator's errors and how little it deceives; reaches the generator alone."""
        errors = torch.stack([masked_rmse(series, target, visible) for series in generated]).sum()
        with frozen(self.discriminator):
            logits = self.discriminator(completed, hint)
        hidden = ~observed
        surprise = nn.functional.softplus(-logits).where(hidden, 0.0)  # -log of "it is a reading"
        deceit = surprise.sum() / hidden.sum().clamp(min=1)
        return self.reconstruction_weight * errors + deceit


def masked_rmse(
    prediction: Float[Tensor, "b t n"],
    target: Float[Tensor, "b t n"],
    mask: Bool[Tensor, "b t n"],
) -> Float[Tensor, ""]:
    """Root mean square error where `mask` is True; 0 if that is nowhere."""
    squares = (prediction - target).where(mask, 0.0).square()
    mean = squares.sum() / mask.sum().clamp(min=1)
    positive = mean > 0  # the root has no slope at 0
    return mean.where(positive, 1.0).sqrt().where(positive, 0.0)


def mask_hint(
    observed: Bool[Tensor, "b t n"], told: Bool[Tensor, "b t n"]
) -> Float[Tensor, "b t n"]:
    """The mask where it is told, one half elsewhere."""
    return observed.float().where(told, 0.5)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients out of a module's parameters while it is called."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _count_from_zero(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object
) -> None:
    """A published state dict does not count batches."""
    state_dict.setdefault(f"{prefix}batches", torch.zeros((), dtype=torch.long))
