"""SAITS: two blocks of self-attention over time, and a learned mixture of what they say.

Wenjie Du, David Côté, Yan Liu. "SAITS: Self-Attention-based Imputation for Time Series". Expert
Systems with Applications 219, 2023. arXiv:2202.08516.

The equations are those of the version that the SPIN paper (arXiv:2205.13479) compares with;
parameters bear its names. Deviations from that version:

* one attention head works too;
* what no step may attend to gets the lowest number of its type, not -1e9, which half precision
  cannot hold; the weights are the same.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.losses import masked_mae
from baselines.saits_layers import EncoderLayer, LayerSizes, PositionalTable

SHARING = ("inner_group", "between_group")


class Estimates(NamedTuple):
    """What the two blocks say, and their mixture, which is the imputation; for every entry."""

    first: Float[Tensor, "b t n"]
    second: Float[Tensor, "b t n"]
    mixed: Float[Tensor, "b t n"]


class SAITS(nn.Module):
    """Self-attention imputation; a token is a step, its features are all sensors."""

    mask_token: Tensor

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
    ) -> None:
        """Build both blocks.

        Args:
            n_nodes: sensors of the network.
            window: steps of a sample.
            d_model: width of a token; even.
            d_inner: width of the layers' perceptrons.
            n_heads: attention heads.
            d_k: width of a head's queries and keys; None for d_model / n_heads.
            d_v: width of a head's values; None for d_model / n_heads.
            n_groups: groups of layers in a block.
            n_group_inner_layers: layers of a group.
            parameter_sharing: the layers of a group are one ("inner_group"), or the groups are
                one ("between_group").
            dropout: inside the layers and after the first embedding.
            input_with_mask: tokens carry the mask beside the readings.
            diagonal_mask: no step attends to itself.
            trainable_mask_token: learn what stands for a missing reading; otherwise 0.
            reconstruction_weight: weight in the loss of the observed entries.
        """
        super().__init__()
        if parameter_sharing not in SHARING:
            raise ValueError(f"parameter_sharing={parameter_sharing!r}; choose from {SHARING}")
        if min(n_groups, n_group_inner_layers) < 1:
            raise ValueError(f"{n_groups=} and {n_group_inner_layers=} must be at least 1")
        if d_model % 2:
            raise ValueError(f"d_model={d_model} must be even, for the positional table")
        self.window, self.input_with_mask = window, input_with_mask
        self.diagonal_mask, self.reconstruction_weight = diagonal_mask, reconstruction_weight
        self.by_layer = parameter_sharing == "inner_group"
        n_layers, self.n_repeats = n_groups, n_group_inner_layers
        if not self.by_layer:
            n_layers, self.n_repeats = self.n_repeats, n_layers
        sizes = LayerSizes(
            d_model,
            d_inner,
            n_heads,
            d_k if d_k is not None else d_model // n_heads,
            d_v if d_v is not None else d_model // n_heads,
            dropout,
        )

        token = torch.zeros(1, 1, n_nodes)
        if trainable_mask_token:
            bound = n_nodes**-0.5
            self.mask_token = nn.Parameter(token.uniform_(-bound, bound))
        else:
            self.register_buffer("mask_token", token)
        self.layer_stack_for_first_block, self.layer_stack_for_second_block = (
            nn.ModuleList(EncoderLayer(sizes) for _ in range(n_layers)) for _ in range(2)
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

    def estimates(
        self, x: Float[Tensor, "b t n 1"], observed: Bool[Tensor, "b t n 1"]
    ) -> Estimates:
        """All that is estimated; arguments as in `forward`."""
        if x.shape[1] != self.window:
            raise ValueError(f"{x.shape[1]} steps were given to a model of window={self.window}")
        seen = observed.squeeze(-1)
        series = x.squeeze(-1).where(seen, self.mask_token)
        mask = seen.to(series.dtype)

        tokens = self.dropout(self.position_enc(self.embedding_1(self._features(series, mask))))
        tokens, _ = self._encode(self.layer_stack_for_first_block, tokens)
        first = self.reduce_dim_z(tokens)

        completed = series.where(seen, first)
        tokens = self.position_enc(self.embedding_2(self._features(completed, mask)))
        tokens, weights = self._encode(self.layer_stack_for_second_block, tokens)
        second = self.reduce_dim_gamma(torch.relu(self.reduce_dim_beta(tokens)))

        share = torch.sigmoid(self.weight_combine(torch.cat([mask, weights], -1)))
        return Estimates(first, second, second + share * (first - second))

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Estimate every entry.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: not used.

        Raises:
            ValueError: the sample is not as long as the window.
        """
        return self.estimates(x, observed).mixed[..., None]

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Imputation of what was hidden for it, and reconstruction of what was not.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: not used.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        found = self.estimates(x, observed)
        target, visible, observed = (a.squeeze(-1) for a in (target, visible, observed))
        reconstruction = torch.stack([masked_mae(series, target, observed) for series in found])
        imputation = masked_mae(found.mixed, target, visible & ~observed)
        return imputation + self.reconstruction_weight * reconstruction.mean()

    def _features(
        self, series: Float[Tensor, "b t n"], mask: Float[Tensor, "b t n"]
    ) -> Float[Tensor, "b t f"]:
        return torch.cat([series, mask], -1) if self.input_with_mask else series

    def _encode(
        self, layers: nn.ModuleList, tokens: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t t"]]:
        """Tokens after all layers of a block, and the attention weights of the last."""
        excluded = None
        if self.diagonal_mask:
            excluded = torch.eye(self.window, dtype=torch.bool, device=tokens.device)
        repeats = range(self.n_repeats)
        if self.by_layer:
            order = [layer for layer in layers for _ in repeats]
        else:
            order = [layer for _ in repeats for layer in layers]
        for layer in order:
            tokens, weights = layer(tokens, excluded)
        return tokens, weights
