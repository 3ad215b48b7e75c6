"""Spatio-temporal Transformer, the baseline of the SPIN paper.

Marisca, Cini, Alippi. Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse
Observations. NeurIPS 2022. arXiv:2205.13479 (section 5). Attention: Vaswani et al. Attention Is
All You Need. NeurIPS 2017. arXiv:1706.03762

Each layer attends over the steps of a node, then over the nodes of a step, without masks: a gap is
a learned token. No graph is used. As published, the residual around the temporal attention is
a learned linear map.

Deviations from the published code: attention over steps alone or nodes alone, an encoder without
time features and other activations than ELU are not offered. The table of positions is no part of
the state.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.blocks import MLP, NodeEmbedding, PositionalEncoding, StdLayerNorm
from baselines.layerwise import LayerwiseImputer


class SpatioTemporalLayer(nn.Module):
    """Attention along time, attention across nodes, feed-forward; normalised before each."""

    def __init__(self, d_hidden: int, d_ff: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.skip_conn = nn.Linear(d_hidden, d_hidden)
        self.norm1, self.norm2 = StdLayerNorm(d_hidden), StdLayerNorm(d_hidden)
        self.temporal_att = nn.MultiheadAttention(d_hidden, n_heads, batch_first=True)
        self.spatial_att = nn.MultiheadAttention(d_hidden, n_heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            StdLayerNorm(d_hidden),
            nn.Linear(d_hidden, d_ff),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Linear(d_ff, d_hidden),
            nn.Dropout(dropout),
        )

    def forward(self, h: Float[Tensor, "b t n d"]) -> Float[Tensor, "b t n d"]:
        """One layer."""
        by_node = self.norm1(h).transpose(1, 2)  # [b n t d]
        h = self.skip_conn(h) + self.dropout(attend(self.temporal_att, by_node).transpose(1, 2))
        h = h + self.dropout(attend(self.spatial_att, self.norm2(h)))
        return h + self.mlp(h)


def attend(
    attention: nn.MultiheadAttention, h: Float[Tensor, "b r s d"]
) -> Float[Tensor, "b r s d"]:
    """Self-attention along axis s, for every row on its own."""
    rows = h.flatten(0, 1)
    out: Tensor = attention(rows, rows, rows, need_weights=False)[0]
    return out.view(h.shape)


class Transformer(LayerwiseImputer):
    """Transformer over steps and nodes.

    Args:
        d_hidden: width; even, and a multiple of `n_heads`.
        d_ff: hidden width of feed-forward networks and readouts.
        n_heads: attention heads.
        n_layers: number of layers, each with a readout.
        dropout: dropout of the residual branches and readouts.
        n_time_features: sine and cosine of time of day and day of week.
    """

    def __init__(
        self,
        *,
        d_hidden: int = 64,
        d_ff: int = 128,
        n_heads: int = 4,
        n_layers: int = 5,
        dropout: float = 0.0,
        n_time_features: int = 4,
    ) -> None:
        super().__init__()
        if d_hidden % n_heads:
            raise ValueError(f"d_hidden {d_hidden} is not a multiple of n_heads {n_heads}")
        self.u_enc = MLP(n_time_features, d_hidden, n_layers=2)
        self.h_enc = MLP(1, d_hidden, n_layers=2)
        self.mask_token = NodeEmbedding(1, d_hidden)
        self.pe = PositionalEncoding(d_hidden)
        self.encoder = nn.ModuleList(
            SpatioTemporalLayer(d_hidden, d_ff, n_heads, dropout) for _ in range(n_layers)
        )
        self.readout = nn.ModuleList(
            MLP(d_hidden, d_ff, 1, n_layers=2, dropout=dropout) for _ in range(n_layers)
        )

    def predictions(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> list[Float[Tensor, "b t n 1"]]:
        """Prediction of every entry after each layer."""
        readings = self.h_enc(x.where(observed, 0.0))
        h = torch.where(observed, readings, self.mask_token())
        h = self.pe(h + self.u_enc(time_features)[:, :, None])
        outputs = []
        for encode, readout in zip(self.encoder, self.readout, strict=True):
            h = encode(h)
            outputs.append(readout(h))
        return outputs
