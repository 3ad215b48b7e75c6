"""The encoder layer of SAITS: self-attention over time, then a perceptron.

Wenjie Du, David Côté, Yan Liu. "SAITS: Self-Attention-based Imputation for Time Series". Expert
Systems with Applications 219, 2023. arXiv:2202.08516.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

PERCEPTRON_NORM_EPS = 1e-6  # of the published code; the attention's is PyTorch's 1e-5


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of an encoder layer."""

    d_model: int
    d_inner: int  # of the perceptron
    n_heads: int
    d_k: int  # of a head's queries and keys
    d_v: int  # of a head's values
    dropout: float


class EncoderLayer(nn.Module):
    """Attention and perceptron, each normalised at its entrance and added to what came in."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(sizes.d_model)
        self.slf_attn = SelfAttention(sizes)
        self.pos_ffn = Perceptron(sizes)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, x: Float[Tensor, "b t d"], excluded: Bool[Tensor, "t t"] | None
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t t"]]:
        """New tokens, and the attention weights [query, key], their mean over heads.

        Args:
            x: tokens.
            excluded: True where a step (row) may not attend to another (column).
        """
        attended, weights = self.slf_attn(self.layer_norm(x), excluded)
        x = x + self.dropout(attended)
        return x + self.dropout(self.pos_ffn(x)), weights


class SelfAttention(nn.Module):
    """Scaled dot-product attention; no map has a bias."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.n_heads = sizes.n_heads
        self.w_qs = nn.Linear(sizes.d_model, sizes.n_heads * sizes.d_k, bias=False)
        self.w_ks = nn.Linear(sizes.d_model, sizes.n_heads * sizes.d_k, bias=False)
        self.w_vs = nn.Linear(sizes.d_model, sizes.n_heads * sizes.d_v, bias=False)
        self.fc = nn.Linear(sizes.n_heads * sizes.d_v, sizes.d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "b t d"], excluded: Bool[Tensor, "t t"] | None
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t t"]]:
        """Attended tokens and mean weights; arguments as in `EncoderLayer.forward`."""
        query, key, value = (self._heads(layer(x)) for layer in (self.w_qs, self.w_ks, self.w_vs))
        scores = (query * query.shape[-1] ** -0.5) @ key.mT
        if excluded is not None:
            scores = scores.masked_fill(excluded, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        attended: Tensor = self.fc((weights @ value).transpose(1, 2).flatten(2))
        return attended, weights.mean(1)

    def _heads(self, x: Float[Tensor, "b t hd"]) -> Float[Tensor, "b h t d"]:
        return x.view(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


class Perceptron(nn.Module):
    """One hidden layer, behind a normalisation."""

    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.w_1 = nn.Linear(sizes.d_model, sizes.d_inner)
        self.w_2 = nn.Linear(sizes.d_inner, sizes.d_model)
        self.layer_norm = nn.LayerNorm(sizes.d_model, eps=PERCEPTRON_NORM_EPS)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Map every token."""
        mapped: Tensor = self.w_2(torch.relu(self.w_1(self.layer_norm(x))))
        return mapped


class PositionalTable(nn.Module):
    """Sines and cosines of the step, as a buffer."""

    pos_table: Tensor

    def __init__(self, window: int, d_model: int) -> None:
        super().__init__()
        even = torch.arange(0, d_model, 2, dtype=torch.float64)
        angle = torch.arange(window, dtype=torch.float64)[:, None] * 10000 ** (-even / d_model)
        table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        self.register_buffer("pos_table", table.float())

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Add the table."""
        return x + self.pos_table
