"""ImputeFormer: low-rankness-induced Transformer.

Nie, Qin, Ma, Mei, Sun. ImputeFormer: Low Rankness-Induced Transformers for Generalizable
Spatiotemporal Imputation. KDD 2024. arXiv:2312.01728

Temporal attention is projected onto a few learned vectors and back (low rank along time), spatial
attention compares learned node embeddings (linear in the number of nodes), and a Fourier term of
the loss favours completed series with a sparse spectrum.

Deviation from the published code: the Fourier term. The published code mixes up its mask: it
regularises predictions where readings exist and reads the raw target everywhere else, held-out
readings included. Here it acts, as the paper describes, on the completed series: predictions where
no reading is visible, visible readings elsewhere. A target that is not visible is never read.

On a CPU, dropout probabilities are rounded to a multiple of 1/65536.

As published, the transform runs over all axes of a batch, the samples included, so the term depends
on the batch; and the spatial attention has an output map that is never used
(`attn_layers_s.*.attn.out_proj`, no gradient), kept so that published weights load.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.blocks import MLP
from baselines.imputeformer_layers import SpatialLayer, TemporalLayer
from baselines.losses import masked_mae

PART = 2048
"""Entries for which a CPU computes what comes after the temporal attention at a time: their
activations stay in its cache. A step is never cut."""


def fourier_term(series: Float[Tensor, "b t n 1"]) -> Float[Tensor, ""]:
    """Mean over samples of the summed spectrum magnitude, divided by the number of entries.

    The transform runs over all four axes, the batch included, as published.
    """
    full = series.to(torch.promote_types(series.dtype, torch.float32))
    magnitude: Tensor = torch.fft.fftn(full).abs()
    return magnitude.sum() / (len(full) * full.numel())


class ImputeFormer(nn.Module):
    """ImputeFormer. The model width is `d_input + d_embedding`.

    Args:
        n_nodes: number of nodes.
        window: steps of a window; fixed, each (step, node) has an embedding.
        n_time_features: sine and cosine of the time of day.
        d_input: width of embedded readings.
        d_embedding: width of the learned embeddings.
        d_ff: hidden width of the spatial feed-forward networks.
        d_projector: learned vectors of the projected attention.
        n_heads: temporal attention heads.
        n_layers: pairs of a temporal and a spatial layer.
        dropout: dropout of the temporal layers.
        fourier_weight: weight of the Fourier term in the loss.
    """

    UNUSED_PARAMETERS: ClassVar = (
        "attn.out_proj.weight",
        "attn.out_proj.bias",
    )
    """Ends of the names of published parameters that nothing uses."""

    def __init__(
        self,
        *,
        n_nodes: int,
        window: int = 24,
        n_time_features: int = 2,
        d_input: int = 32,
        d_embedding: int = 96,
        d_ff: int = 256,
        d_projector: int = 8,
        n_heads: int = 4,
        n_layers: int = 3,
        dropout: float = 0.1,
        fourier_weight: float = 0.01,
    ) -> None:
        super().__init__()
        d_model = d_input + d_embedding
        self.fourier_weight = fourier_weight
        self.input_proj = nn.Linear(1 + n_time_features, d_input)
        self.learnable_embedding = nn.Parameter(torch.empty(window, n_nodes, d_embedding))
        nn.init.xavier_uniform_(self.learnable_embedding)
        self.attn_layers_t = nn.ModuleList(
            TemporalLayer(d_model, d_projector, n_heads, dropout) for _ in range(n_layers)
        )
        self.attn_layers_s = nn.ModuleList(
            SpatialLayer(d_model, d_embedding, d_ff) for _ in range(n_layers)
        )
        self.readout = MLP(d_model, d_model, 1, n_layers=2)

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
        embedding = self.learnable_embedding
        if x.shape[1:3] != embedding.shape[:2]:
            raise ValueError(
                f"built for {tuple(embedding.shape[:2])} (window, n_nodes), got {x.shape[1:3]}"
            )
        n_batch, _, n_nodes, _ = x.shape
        time = time_features[:, :, None].expand(-1, -1, n_nodes, -1)
        inputs = torch.cat([x.where(observed, 0.0), time], -1).permute(1, 2, 0, 3)
        known = embedding[:, :, None].expand(-1, -1, n_batch, -1)
        h = torch.cat([self.input_proj(inputs), known], -1)  # [t n b d]
        n_steps = len(h) if h.is_cuda else -(-PART // (n_batch * n_nodes))
        for temporal, spatial in zip(self.attn_layers_t, self.attn_layers_s, strict=True):
            assert isinstance(temporal, TemporalLayer)
            assert isinstance(spatial, SpatialLayer)
            attended = temporal.attend(h.flatten(1, 2)).view_as(h)
            scores = spatial.attn.FC_Q_K(embedding)
            parts = zip(*(a.split(n_steps) for a in (h, attended, scores)), strict=True)
            h = torch.cat([spatial(temporal(part, change), s) for part, change, s in parts])
        return self.readout(h).permute(2, 0, 1, 3)

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Masked absolute error on the entries hidden on purpose, and the Fourier term.

        Args:
            x: as in `forward`.
            observed: as in `forward`.
            time_features: as in `forward`.
            target: scaled readings; anything (also NaN) where not visible.
            visible: True where the reading may be used as a label.
        """
        y = self(x, observed, time_features)
        completed = torch.where(visible, target, y)
        error = masked_mae(y, target, visible & ~observed)
        return error + self.fourier_weight * fourier_term(completed)
