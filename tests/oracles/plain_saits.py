"""SAITS as one would write it down from the paper: the attention weights are a whole tensor.

SAITS: Self-Attention-based Imputation for Time Series, Expert Systems with Applications 219, 2023,
arXiv:2202.08516, in the version that the SPIN paper (arXiv:2205.13479) compares with. Tokens are
steps, their features all sensors. Parameters under the published names.
"""

import torch
from plain_parts import masked_mae
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Scaled dot-product attention without biases."""

    def __init__(self, d_model: int, n_heads: int, d_k: int, d_v: int):
        super().__init__()
        self.n_heads, self.d_k = n_heads, d_k
        self.w_qs = nn.Linear(d_model, n_heads * d_k, bias=False)
        self.w_ks = nn.Linear(d_model, n_heads * d_k, bias=False)
        self.w_vs = nn.Linear(d_model, n_heads * d_v, bias=False)
        self.fc = nn.Linear(n_heads * d_v, d_model, bias=False)

    def forward(self, x: Tensor, diagonal_mask: bool) -> tuple[Tensor, Tensor]:
        b, t, _ = x.shape
        q, k, v = (
            layer(x).view(b, t, self.n_heads, -1).transpose(1, 2)
            for layer in (self.w_qs, self.w_ks, self.w_vs)
        )
        scores = q / self.d_k**0.5 @ k.transpose(-1, -2)
        if diagonal_mask:
            itself = torch.eye(t, dtype=torch.bool, device=x.device)
            scores = scores.masked_fill(itself, -1e9)
        weights = scores.softmax(dim=-1)  # [b h t t]
        return self.fc((weights @ v).transpose(1, 2).reshape(b, t, -1)), weights


class Perceptron(nn.Module):
    """One hidden layer behind a normalisation."""

    def __init__(self, d_model: int, d_inner: int):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(d_model, d_inner), nn.Linear(d_inner, d_model)
        self.layer_norm = nn.LayerNorm(d_model, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(torch.relu(self.w_1(self.layer_norm(x))))


class EncoderLayer(nn.Module):
    """Two residual parts, each normalised at its entrance."""

    def __init__(self, d_model: int, d_inner: int, n_heads: int, d_k: int, d_v: int, p: float):
        super().__init__()
        self.layer_norm = nn.LayerNorm(d_model)
        self.slf_attn = SelfAttention(d_model, n_heads, d_k, d_v)
        self.pos_ffn = Perceptron(d_model, d_inner)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, diagonal_mask: bool) -> tuple[Tensor, Tensor]:
        attended, weights = self.slf_attn(self.layer_norm(x), diagonal_mask)
        y = x + self.dropout(attended)
        return y + self.dropout(self.pos_ffn(y)), weights


class PositionalTable(nn.Module):
    """Sine and cosine of the step's number."""

    def __init__(self, window: int, d_model: int):
        super().__init__()
        j = torch.arange(d_model)
        angle = torch.arange(window).double()[:, None] / 10000 ** (2 * (j // 2) / d_model).double()
        table = torch.where(j % 2 == 0, angle.sin(), angle.cos())
        self.register_buffer("pos_table", table.float())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos_table


class PlainSAITS(nn.Module):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        n_nodes: int,
        window: int,
        d_model: int = 1024,
        d_inner: int = 1024,
        n_heads: int = 4,
        d_k: int | None = None,
        d_v: int | None = None,
        n_groups: int = 1,
        n_group_inner_layers: int = 1,
        parameter_sharing: str = "inner_group",
        dropout: float = 0.0,
        input_with_mask: bool = True,
        diagonal_mask: bool = True,
        trainable_mask_token: bool = False,
        reconstruction_weight: float = 1.0,
    ):
        super().__init__()
        self.inner_group = parameter_sharing == "inner_group"
        self.n_groups, self.n_inner = n_groups, n_group_inner_layers
        self.input_with_mask, self.diagonal_mask = input_with_mask, diagonal_mask
        self.reconstruction_weight = reconstruction_weight
        if trainable_mask_token:
            bound = n_nodes**-0.5
            self.mask_token = nn.Parameter(torch.empty(1, 1, n_nodes).uniform_(-bound, bound))
        else:
            self.register_buffer("mask_token", torch.zeros(1, 1, n_nodes))
        d_k, d_v = (d_model // n_heads if d is None else d for d in (d_k, d_v))
        self.layer_stack_for_first_block, self.layer_stack_for_second_block = (
            nn.ModuleList(
                EncoderLayer(d_model, d_inner, n_heads, d_k, d_v, dropout)
                for _ in range(n_groups if self.inner_group else n_group_inner_layers)
            )
            for _ in range(2)
        )
        self.position_enc = PositionalTable(window, d_model)
        self.dropout = nn.Dropout(dropout)
        n_features = 2 * n_nodes if input_with_mask else n_nodes
        self.embedding_1 = nn.Linear(n_features, d_model)
        self.reduce_dim_z = nn.Linear(d_model, n_nodes)
        self.embedding_2 = nn.Linear(n_features, d_model)
        self.reduce_dim_beta = nn.Linear(d_model, n_nodes)
        self.reduce_dim_gamma = nn.Linear(n_nodes, n_nodes)
        self.weight_combine = nn.Linear(n_nodes + window, n_nodes)

    def encode(self, layers: nn.ModuleList, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens after a block, and the weights of its last layer, averaged over the heads."""
        if self.inner_group:  # each group is one layer, applied several times
            for layer in layers:
                for _ in range(self.n_inner):
                    tokens, weights = layer(tokens, self.diagonal_mask)
        else:  # all groups are the same layers
            for _ in range(self.n_groups):
                for layer in layers:
                    tokens, weights = layer(tokens, self.diagonal_mask)
        return tokens, weights.mean(dim=1)

    def estimates(self, x: Tensor, observed: Tensor) -> list[Tensor]:
        """First block, second block and their mixture, all `[b t n 1]`."""
        x = torch.where(observed[..., 0], x[..., 0], self.mask_token)
        m = observed[..., 0].to(x.dtype)
        features = torch.cat([x, m], dim=-1) if self.input_with_mask else x
        tokens = self.dropout(self.position_enc(self.embedding_1(features)))
        z, _ = self.encode(self.layer_stack_for_first_block, tokens)
        x_1 = self.reduce_dim_z(z)

        completed = m * x + (1 - m) * x_1
        features = torch.cat([completed, m], dim=-1) if self.input_with_mask else completed
        tokens = self.position_enc(self.embedding_2(features))
        z, weights = self.encode(self.layer_stack_for_second_block, tokens)
        x_2 = self.reduce_dim_gamma(torch.relu(self.reduce_dim_beta(z)))

        eta = torch.sigmoid(self.weight_combine(torch.cat([m, weights], dim=-1)))
        x_3 = (1 - eta) * x_2 + eta * x_1
        return [estimate[..., None] for estimate in (x_1, x_2, x_3)]

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        return self.estimates(x, observed)[-1]

    def loss(
        self, x: Tensor, observed: Tensor, time_features: Tensor, target: Tensor, visible: Tensor
    ) -> Tensor:
        found = self.estimates(x, observed)
        imputation = masked_mae(found[-1], target, visible & ~observed)
        reconstruction = sum(masked_mae(one, target, observed) for one in found) / 3
        return imputation + self.reconstruction_weight * reconstruction
