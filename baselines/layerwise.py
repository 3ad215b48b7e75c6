"""What SPIN, SPIN-H and the Transformer share: a reading after every layer, all of them trained."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.losses import masked_mae


class LayerwiseImputer(nn.Module, ABC):
    """A network that predicts every entry after each layer; the last prediction is the result."""

    @abstractmethod
    def predictions(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> list[Float[Tensor, "b t n 1"]]:
        """Prediction of every entry after each layer; arguments as in `forward`."""

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Predict every entry.

        Args:
            x: scaled readings; anything (also NaN) where not observed.
            observed: True where the model may see the reading.
            time_features: sines and cosines of the time.
        """
        return self.predictions(x, observed, time_features)[-1]

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Masked absolute error on the entries hidden on purpose, summed over all layers.

        Args:
            x: as in `forward`.
            observed: as in `forward`.
            time_features: as in `forward`.
            target: scaled readings; anything (also NaN) where not visible.
            visible: True where the reading may be used as a label.
        """
        hidden = visible & ~observed
        outputs = self.predictions(x, observed, time_features)
        return torch.stack([masked_mae(y, target, hidden) for y in outputs]).sum()
