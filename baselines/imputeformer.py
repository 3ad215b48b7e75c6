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

As published, the transform runs over all axes of a batch, the samples included, so the term depends
on the batch; and the spatial attention has an output map that is never used
(`attn_layers_s.*.attn.out_proj`, no gradient), kept so that published weights load.
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.blocks import MLP
from baselines.losses import masked_mae


class MultiHeadAttention(nn.Module):
    """Attention whose heads are consecutive slices of the features."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"width {d_model} is not a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.FC_Q, self.FC_K, self.FC_V, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.n_heads, -1).transpose(-2, -3)  # [... heads s d]

    def forward(
        self,
        query: Float[Tensor, "*rows1 q d"],
        key: Float[Tensor, "*rows2 k d"],
        value: Float[Tensor, "*rows k d"],
    ) -> Float[Tensor, "*rows q d"]:
        """Attend from q to k; query and key broadcast to the rows of the values."""
        q, k = self._heads(self.FC_Q(query)), self._heads(self.FC_K(key))
        v = self._heads(self.FC_V(value))
        rows = v.shape[:-2]
        q, k = q.expand(*rows, -1, -1), k.expand(*rows, -1, -1)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(-2, -3).flatten(-2))


class TemporalLayer(nn.Module):
    """Attention of the steps of a node through `d_projector` learned vectors."""

    def __init__(self, d_model: int, d_projector: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.projector = nn.Parameter(torch.randn(d_projector, d_model))
        self.out_attn = MultiHeadAttention(d_model, n_heads)
        self.in_attn = MultiHeadAttention(d_model, n_heads)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.MLP = nn.Sequential(
            nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, d_model)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n t d"]) -> Float[Tensor, "b n t d"]:
        """One layer."""
        summary = self.out_attn(self.projector, x, x)  # [b n p d]
        y = self.norm1(x + self.dropout(self.in_attn(x, self.projector, summary)))
        return self.norm2(y + self.dropout(self.MLP(y)))


class EmbeddedAttention(nn.Module):
    """Linear attention across nodes with weights from node embeddings only."""

    def __init__(self, d_model: int, d_embedding: int) -> None:
        super().__init__()
        self.FC_Q_K = nn.Linear(d_embedding, d_model)
        self.FC_V = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)  # of the published state, not used

    def forward(
        self, x: Float[Tensor, "b t n d"], embedding: Float[Tensor, "t n e"]
    ) -> Float[Tensor, "b t n d"]:
        """`softmax_d(E) (softmax_n(E)^T V)`, first the product of width d x d."""
        scores: Tensor = self.FC_Q_K(embedding)  # [t n d]
        values: Tensor = self.FC_V(x)
        context = torch.softmax(scores, 1).transpose(1, 2) @ values  # [b t d d]
        return torch.softmax(scores, -1) @ context


class SpatialLayer(nn.Module):
    """Embedded attention across nodes and a feed-forward network, without dropout."""

    def __init__(self, d_model: int, d_embedding: int, d_ff: int) -> None:
        super().__init__()
        self.attn = EmbeddedAttention(d_model, d_embedding)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model)
        )
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(
        self, x: Float[Tensor, "b n t d"], embedding: Float[Tensor, "t n e"]
    ) -> Float[Tensor, "b n t d"]:
        """One layer."""
        mixed = self.attn(x.transpose(1, 2), embedding).transpose(1, 2)
        y: Tensor = self.ln1(x + mixed)
        return self.ln2(y + self.feed_forward(y))


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
        readings = self.input_proj(torch.cat([x.where(observed, 0.0), time], -1))
        h = torch.cat([readings, embedding.expand(n_batch, -1, -1, -1)], -1)
        h = h.transpose(1, 2)  # [b n t d]
        for temporal, spatial in zip(self.attn_layers_t, self.attn_layers_s, strict=True):
            h = spatial(temporal(h), embedding)
        return self.readout(h).transpose(1, 2)

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
