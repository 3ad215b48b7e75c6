"""PSAN: Prototype-enhanced Spatial Attention Network.

Citation: Prototype-enhanced Spatial Attention Network for Spatio-temporal Data Imputation,
EDBT 2026. Reference code: github.com/CQRhinoZ/PSAN, commit b824104.

Deviations from the reference code:
    * its embedding dropout stays on at test time, which makes its scores random; here dropout is
      active in training only;
    * values that are not observed are replaced, not multiplied by zero, so that NaN is harmless.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from psan.layers import BidirectionalTemporalConvolution, Embedding, Prototypes, SpatialAttention


class PSAN(nn.Module):
    """Fills gaps in windows of sensor readings, with no predefined graph.

    Args:
        n_nodes: number of sensors.
        window: steps in a window; every call must bring exactly this many.
        n_prototypes: length of the learned vector whose cosine shifts the attention.
        d_model: width, even and divisible by `n_heads`.
        n_heads: attention heads.
        n_layers: layers of temporal convolution and spatial attention.
        n_time_features: time features a step, 2 for sine and cosine of the time of day.
        dropout: probability in embedding, attention and feed-forward part, in training only.

    Raises:
        ValueError: a size that is not positive, or a width that does not fit the heads.
    """

    def __init__(
        self,
        n_nodes: int,
        window: int = 24,
        n_prototypes: int = 10,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 3,
        n_time_features: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        _check_sizes(
            n_nodes=n_nodes, window=window, n_prototypes=n_prototypes, d_model=d_model,
            n_heads=n_heads, n_layers=n_layers,
        )  # fmt: skip
        if d_model % 2 or d_model % n_heads:
            raise ValueError(f"d_model={d_model} must be even and a multiple of n_heads={n_heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} must be in [0, 1)")
        self.n_nodes, self.window = n_nodes, window
        self.embedding = Embedding(n_nodes, window, d_model, 1 + n_time_features, dropout)
        self.prototypes = Prototypes(n_nodes, n_prototypes)
        self.temporal = nn.ModuleList(
            BidirectionalTemporalConvolution(d_model, window) for _ in range(n_layers)
        )
        self.spatial = nn.ModuleList(
            SpatialAttention(d_model, n_heads, dropout) for _ in range(n_layers)
        )
        self.head = nn.Sequential(nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, 1))

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Estimates every entry of a batch of windows.

        Args:
            x: scaled readings; whatever stands where `observed` is False changes nothing.
            observed: True where there is a reading.
            time_features: features of each step, the same for all sensors.

        Returns:
            Scaled estimates of all entries; observed readings are not copied through.

        Raises:
            ValueError: windows of another length or another number of sensors.
        """
        b, t, n, _ = x.shape
        if (t, n) != (self.window, self.n_nodes):
            raise ValueError(
                f"x has {t} steps x {n} sensors; this model was made for windows of "
                f"{self.window} steps x {self.n_nodes} sensors"
            )
        readings = torch.where(observed, x, 0.0)
        features = torch.cat([readings, time_features[:, :, None].expand(b, t, n, -1)], dim=-1)
        hidden = self.embedding(features.transpose(0, 1))
        similarity = self.prototypes()
        for temporal, spatial in zip(self.temporal, self.spatial, strict=True):
            hidden = spatial(temporal(hidden), similarity)
        estimate: Tensor = self.head(hidden).transpose(0, 1)
        return estimate


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")
