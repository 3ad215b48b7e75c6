"""ImputeFormer as one would write it down from the paper, attention weights as whole tensors.

ImputeFormer: Low Rankness-Induced Transformers for Generalizable Spatiotemporal Imputation, KDD
2024, arXiv:2312.01728. Inside, the axes are `[b n t d]`. Parameters under the published names. As
in the package, the Fourier term sees the visible readings and, elsewhere, the predictions.
"""

import torch
from plain_parts import MLP, masked_mae
from torch import Tensor, nn


class Attention(nn.Module):
    """Scaled dot-product attention of several heads."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.FC_Q, self.FC_K, self.FC_V, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def heads(self, x: Tensor) -> Tensor:  # [... h s d]
        return x.view(*x.shape[:-1], self.n_heads, -1).transpose(-2, -3)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k = self.heads(self.FC_Q(query)), self.heads(self.FC_K(key))
        v = self.heads(self.FC_V(value))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return self.out_proj((weights @ v).transpose(-2, -3).flatten(-2))


class TemporalLayer(nn.Module):
    """Attention over the steps of a node by way of a few learned vectors, then a perceptron."""

    def __init__(self, d_model: int, d_projector: int, n_heads: int, dropout: float):
        super().__init__()
        self.projector = nn.Parameter(torch.randn(d_projector, d_model))
        self.out_attn, self.in_attn = Attention(d_model, n_heads), Attention(d_model, n_heads)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.MLP = nn.Sequential(
            nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, d_model)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _, _ = x.shape
        projector = self.projector.expand(b, n, -1, -1)
        summary = self.out_attn(projector, x, x)
        y = self.norm1(x + self.dropout(self.in_attn(x, projector, summary)))
        return self.norm2(y + self.dropout(self.MLP(y)))


class EmbeddedAttention(nn.Module):
    """Linear attention over the nodes of a step, its weights from learned embeddings alone."""

    def __init__(self, d_model: int, d_embedding: int):
        super().__init__()
        self.FC_Q_K = nn.Linear(d_embedding, d_model)
        self.FC_V = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)  # published, never used

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # [b t n d], [t n e]
        e = self.FC_Q_K(embedding)
        q, k = e.softmax(dim=-1), e.softmax(dim=-2)
        return q @ (k.transpose(-1, -2) @ self.FC_V(x))


class SpatialLayer(nn.Module):
    """Embedded attention, then a perceptron."""

    def __init__(self, d_model: int, d_embedding: int, d_ff: int):
        super().__init__()
        self.attn = EmbeddedAttention(d_model, d_embedding)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model)
        )
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        attended = self.attn(x.transpose(1, 2), embedding).transpose(1, 2)
        y = self.ln1(x + attended)
        return self.ln2(y + self.feed_forward(y))


class PlainImputeFormer(nn.Module):
    """The whole network, with the package's arguments and the published names."""

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
    ):
        super().__init__()
        d_model = d_input + d_embedding
        self.fourier_weight = fourier_weight
        self.input_proj = nn.Linear(1 + n_time_features, d_input)
        embedding = nn.init.xavier_uniform_(torch.empty(window, n_nodes, d_embedding))
        self.learnable_embedding = nn.Parameter(embedding)
        self.attn_layers_t = nn.ModuleList(
            TemporalLayer(d_model, d_projector, n_heads, dropout) for _ in range(n_layers)
        )
        self.attn_layers_s = nn.ModuleList(
            SpatialLayer(d_model, d_embedding, d_ff) for _ in range(n_layers)
        )
        self.readout = MLP(d_model, d_model, 1, n_layers=2)

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        b, t, n, _ = x.shape
        u = time_features[:, :, None].expand(b, t, n, -1)
        e = self.input_proj(torch.cat([torch.where(observed, x, 0.0), u], dim=-1))
        embedding = self.learnable_embedding
        h = torch.cat([e, embedding.expand(b, -1, -1, -1)], dim=-1).transpose(1, 2)
        for temporal, spatial in zip(self.attn_layers_t, self.attn_layers_s, strict=True):
            h = spatial(temporal(h), embedding)
        return self.readout(h).transpose(1, 2)

    def loss(
        self, x: Tensor, observed: Tensor, time_features: Tensor, target: Tensor, visible: Tensor
    ) -> Tensor:
        y = self(x, observed, time_features)
        completed = torch.where(visible, target, y)
        magnitude = torch.fft.fftn(completed).abs()  # over all four axes
        fourier = (magnitude.sum(dim=(1, 2, 3)) / completed.numel()).mean()
        return masked_mae(y, target, visible & ~observed) + self.fourier_weight * fourier
