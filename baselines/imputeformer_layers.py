"""The layers of ImputeFormer: attention over time by way of a few vectors, and over the nodes.

Nie, Qin, Ma, Mei, Sun. ImputeFormer: Low Rankness-Induced Transformers for Generalizable
Spatiotemporal Imputation. KDD 2024. arXiv:2312.01728

Inside, the axes are `[t n b d]`: the nodes of a step, and all samples of a node, lie together.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.dropout import add_dropped


class MultiHeadAttention(nn.Module):
    """Maps of an attention whose heads are consecutive slices of the features.

    It only holds parameters and folds them: `TemporalLayer` attends from or to a few vectors.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"width {d_model} is not a multiple of n_heads {n_heads}")
        self.n_heads = n_heads
        self.FC_Q, self.FC_K, self.FC_V, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def scores_against(
        self, vectors: Float[Tensor, "p d"], layer: nn.Linear
    ) -> tuple[Float[Tensor, "ph d"], Float[Tensor, " ph"]]:
        """Map from x to the products of `layer(x)` and the vectors, for each vector and head."""
        vectors = vectors.unflatten(1, (self.n_heads, -1)) * self.width**-0.5
        weight = torch.einsum("phe,hed->phd", vectors, self.by_head(layer.weight))
        return weight.flatten(0, 1), (vectors * self.by_head(layer.bias)).sum(-1).flatten()

    def by_head(self, x: Float[Tensor, "d *rest"]) -> Float[Tensor, "h e *rest"]:
        """Slices of the heads."""
        return x.unflatten(0, (self.n_heads, -1))

    @property
    def width(self) -> int:
        """Features of a head."""
        return self.FC_Q.out_features // self.n_heads


class TemporalLayer(nn.Module):
    """Attention of the steps of a node through `d_projector` learned vectors, and a perceptron.

    The vectors `P` gather a summary of the steps, `A = out_attn(P, x, x)`, and hand it back,
    `in_attn(x, P, A)`. As the queries of the one and the keys of the other depend on no reading,
    all scores are one map of `x` with `p * h` rows each (p vectors, h heads); neither keys, values
    nor queries of the steps are ever computed. Values are mapped once they are averaged, and the
    maps between the two weightings are folded into one.
    """

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

    def attend(self, x: Float[Tensor, "t r d"]) -> Float[Tensor, "t r d"]:
        """What the steps of a row (a node of a sample) tell each other."""
        gather, spread = self._weights(x)
        gathered = gather.permute(1, 2, 0) @ x.transpose(0, 1)  # [r ph d]
        attended = spread.transpose(0, 1) @ self._summaries(gathered)  # [r t d]
        return attended.transpose(0, 1)

    def forward(
        self, x: Float[Tensor, "*rows d"], attended: Float[Tensor, "*rows d"]
    ) -> Float[Tensor, "*rows d"]:
        """The layer from its attention on; steps are on their own."""
        y = self.norm1(self._add(x, attended))
        return self.norm2(self._add(y, self.MLP(y)))

    def _weights(
        self, x: Float[Tensor, "t r d"]
    ) -> tuple[Float[Tensor, "t r ph"], Float[Tensor, "t r ph"]]:
        """Weights of the steps for each vector, and of the vectors for each step."""
        gather, spread = self.out_attn, self.in_attn
        maps, offsets = zip(
            gather.scores_against(gather.FC_Q(self.projector), gather.FC_K),
            spread.scores_against(spread.FC_K(self.projector), spread.FC_Q),
            strict=True,
        )
        scores = F.linear(x, torch.cat(maps), torch.cat(offsets))
        over_steps, over_vectors = scores.chunk(2, -1)
        rows_last = over_vectors.mT.contiguous()  # a softmax over few entries side by side is slow
        shares = rows_last.view(len(x), len(self.projector), -1).softmax(1).view_as(rows_last)
        return over_steps.softmax(0), shares.mT.contiguous()

    def _summaries(self, gathered: Float[Tensor, "r ph d"]) -> Float[Tensor, "r ph d"]:
        """What each vector hands back to each head, mapped as far as the output.

        The biases are the same wherever the weights of a head sum to one, so that all of them
        together are spread evenly over the heads.
        """
        gather, spread = self.out_attn, self.in_attn
        h = gather.n_heads
        rows = gathered.unflatten(1, (-1, h)).flatten(0, 1).transpose(0, 1)  # [h rp d]
        values = rows @ gather.by_head(gather.FC_V.weight).mT
        values = values.transpose(0, 1).flatten(1)  # [rp d]
        values = F.linear(values, spread.FC_V.weight @ gather.out_proj.weight)
        values = values.unflatten(1, (h, -1)).transpose(0, 1)  # [h rp e]
        bias = spread.out_proj(spread.FC_V(gather.out_proj(gather.FC_V.bias))) / h
        out = torch.baddbmm(bias.expand(h, 1, -1), values, spread.by_head(spread.out_proj.weight.T))
        return out.transpose(0, 1).reshape(gathered.shape)

    def _add(
        self, x: Float[Tensor, "*rows d"], change: Float[Tensor, "*rows d"]
    ) -> Float[Tensor, "*rows d"]:
        rate = self.dropout.p if self.training else 0.0
        return add_dropped(x, change, rate)


class EmbeddedAttention(nn.Module):
    """Linear attention across nodes with weights from node embeddings only."""

    def __init__(self, d_model: int, d_embedding: int) -> None:
        super().__init__()
        self.FC_Q_K = nn.Linear(d_embedding, d_model)
        self.FC_V = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)  # of the published state, not used

    def forward(
        self, x: Float[Tensor, "t n b d"], scores: Float[Tensor, "t n d"]
    ) -> Float[Tensor, "t n b d"]:
        """`softmax_d(E) (softmax_n(E)^T V)`; the values are mapped after their mean.

        Args:
            x: what the nodes know.
            scores: E, the embeddings through `FC_Q_K`.
        """
        context = scores.softmax(1).mT @ x.flatten(2)  # [t d bd]
        context = self.FC_V(context.unflatten(2, x.shape[2:]))
        return (scores.softmax(-1) @ context.flatten(2)).view_as(x)


class SpatialLayer(nn.Module):
    """Embedded attention across nodes and a feed-forward network, without dropout."""

    def __init__(self, d_model: int, d_embedding: int, d_ff: int) -> None:
        super().__init__()
        self.attn = EmbeddedAttention(d_model, d_embedding)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.ReLU(inplace=True), nn.Linear(d_ff, d_model)
        )
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(
        self, x: Float[Tensor, "t n b d"], scores: Float[Tensor, "t n d"]
    ) -> Float[Tensor, "t n b d"]:
        """One layer; `scores` as in `EmbeddedAttention`."""
        y: Tensor = self.ln1(x + self.attn(x, scores)).flatten(0, -2)
        return self.ln2(y + self.feed_forward(y)).view_as(x)
