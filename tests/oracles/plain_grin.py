"""GRIN as one would write it down from the paper: a cell per step, one direction after the other.

Filling the G_ap_s: Multivariate Time Series Imputation by Graph Neural Networks, ICLR 2022,
arXiv:2108.00298. Inside, a step is `[b c n]`. Parameters under the published names.
"""

import torch
from plain_parts import masked_mae
from torch import Tensor, nn


def supports_of(adjacency: Tensor) -> list[Tensor]:
    """Adjacency along and against the edges, rows divided by their sums."""
    return [a / (a.sum(1, keepdim=True) + 1e-8) for a in (adjacency, adjacency.T)]


def decoder_supports(supports: list[Tensor], order: int) -> list[Tensor]:
    """The supports, then products `M <- M Aᵀ` of each with the diagonal set to 0, as published."""
    longer = []
    for a in supports:
        m = a
        for _ in range(order - 1):
            m = m @ a.T
            m = m - torch.diag(m.diagonal())
            longer.append(m)
    return [*supports, *longer]


class SpatialConv(nn.Module):
    """The node itself, if asked, and hops 1 to `order` of each support, through one linear map."""

    def __init__(self, c_in: int, c_out: int, n_supports: int, order: int, include_self: bool):
        super().__init__()
        self.order, self.include_self = order, include_self
        self.mlp = nn.Conv2d((n_supports * order + include_self) * c_in, c_out, 1)

    def forward(self, x: Tensor, supports: list[Tensor]) -> Tensor:
        blocks = [x] if self.include_self else []
        for a in supports:
            hop = x
            for _ in range(self.order):
                hop = torch.einsum("wv,bcv->bcw", a, hop)
                blocks.append(hop)
        return self.mlp(torch.cat(blocks, dim=1)[..., None])[..., 0]


class GCGRUCell(nn.Module):
    """Gated recurrent unit whose maps are graph convolutions."""

    def __init__(self, c_in: int, d_hidden: int, order: int):
        super().__init__()
        self.forget_gate, self.update_gate, self.c_gate = (
            SpatialConv(c_in + d_hidden, d_hidden, 2, order, include_self=True) for _ in range(3)
        )

    def forward(self, x: Tensor, h: Tensor, supports: list[Tensor]) -> Tensor:
        both = torch.cat([x, h], dim=1)
        r = torch.sigmoid(self.forget_gate(both, supports))
        u = torch.sigmoid(self.update_gate(both, supports))
        c = torch.tanh(self.c_gate(torch.cat([x, r * h], dim=1), supports))
        return u * h + (1 - u) * c


class GlobalAttention(nn.Module):
    """Attention of every node to all others."""

    def __init__(self, d: int):
        super().__init__()
        self.lin_in = nn.Linear(d, d)
        self.self_attn = nn.MultiheadAttention(d, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin_in(x.transpose(1, 2))
        itself = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return self.self_attn(x, x, x, attn_mask=itself)[0].transpose(1, 2)


class SpatialDecoder(nn.Module):
    """Second estimate of a step, from the neighbours' readings at the same step."""

    def __init__(self, c_in: int, d: int, order: int, attention: bool):
        super().__init__()
        self.order = order
        self.lin_in = nn.Conv1d(c_in + d, d, 1)
        self.graph_conv = SpatialConv(d, d, 2 * order, 1, include_self=False)
        self.spatial_att = GlobalAttention(d) if attention else None
        self.lin_out = nn.Conv1d(3 * d if attention else 2 * d, d, 1)
        self.read_out = nn.Conv1d(2 * d, 1, 1)
        self.activation = nn.PReLU()

    def forward(
        self, x: Tensor, known: Tensor, h: Tensor, supports: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        q = self.lin_in(torch.cat([x, known, h], dim=1))
        parts = [self.graph_conv(q, decoder_supports(supports, self.order))]
        if self.spatial_att is not None:
            parts.append(self.spatial_att(q))
        r = self.activation(self.lin_out(torch.cat([*parts, h], dim=1)))
        representation = torch.cat([r, h], dim=1)
        return self.read_out(representation), representation


class GRIL(nn.Module):
    """One direction of time."""

    def __init__(
        self,
        n_nodes: int,
        d: int,
        n_known: int,
        n_layers: int,
        kernel_size: int,
        decoder_order: int,
        attention: bool,
        layer_norm: bool,
        dropout: float,
    ):
        super().__init__()
        widths = [1 + n_known] + [d] * (n_layers - 1)
        self.cells = nn.ModuleList(GCGRUCell(width, d, kernel_size) for width in widths)
        self.norms = nn.ModuleList(nn.GroupNorm(1, d) for _ in widths if layer_norm)
        self.h0 = nn.ParameterList(torch.randn(d, n_nodes) * d**-0.5 for _ in widths)
        self.first_stage = nn.Conv1d(d, 1, 1)
        self.spatial_decoder = SpatialDecoder(1 + n_known, d, decoder_order, attention)
        self.dropout = nn.Dropout(dropout)

    def update(self, x: Tensor, states: list[Tensor], supports: list[Tensor]) -> list[Tensor]:
        new = []
        for layer, (cell, h) in enumerate(zip(self.cells, states, strict=True)):
            h = cell(self.dropout(new[-1]) if new else x, h, supports)
            new.append(self.norms[layer](h) if self.norms else h)
        return new

    def forward(
        self, x: Tensor, m: Tensor, known: Tensor, supports: list[Tensor]
    ) -> tuple[Tensor, ...]:  # [b c n t]
        states = [h0.expand(len(x), -1, -1) for h0 in self.h0]
        steps = []
        for t in range(x.shape[-1]):
            x_t, m_t, known_t, h = x[..., t], m[..., t], known[..., t], states[-1]
            first = self.first_stage(h)
            second, representation = self.spatial_decoder(
                torch.where(m_t, x_t, first), known_t, h, supports
            )
            filled = torch.where(m_t, x_t, second)
            states = self.update(torch.cat([filled, known_t], dim=1), states, supports)
            steps.append((first, second, representation))
        return tuple(torch.stack(series, dim=-1) for series in zip(*steps, strict=True))


class BiGRIL(nn.Module):
    """Both directions and the perceptron that merges them."""

    def __init__(self, n_nodes: int, d: int, d_ff: int, d_emb: int, ff_dropout: float, *gril):
        super().__init__()
        self.fwd_rnn, self.bwd_rnn = (GRIL(n_nodes, d, *gril) for _ in range(2))
        self.emb = nn.Parameter(nn.init.kaiming_normal_(torch.empty(d_emb, n_nodes)))
        self.out = nn.Sequential(
            nn.Conv2d(4 * d + 1 + d_emb, d_ff, 1),
            nn.ReLU(),
            nn.Dropout(ff_dropout),
            nn.Conv2d(d_ff, 1, 1),
        )

    def forward(
        self, x: Tensor, m: Tensor, u: Tensor, supports: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        known = torch.cat([m.to(x.dtype), u], dim=1)
        ahead = self.fwd_rnn(x, m, known, supports)
        back = self.bwd_rnn(x.flip(-1), m.flip(-1), known.flip(-1), supports)
        back = [series.flip(-1) for series in back]
        emb = self.emb[None, :, :, None].expand(len(x), -1, -1, x.shape[-1])
        final = self.out(torch.cat([ahead[2], back[2], m.to(x.dtype), emb], dim=1))
        return final, [*ahead[:2], *back[:2]]


class PlainGRIN(nn.Module):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        adjacency: Tensor,
        d_hidden: int = 64,
        d_ff: int = 64,
        d_emb: int = 8,
        n_layers: int = 1,
        kernel_size: int = 2,
        decoder_order: int = 1,
        global_attention: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
        ff_dropout: float = 0.0,
        n_time_features: int = 0,
        prediction_weight: float = 1.0,
    ):
        super().__init__()
        self.prediction_weight = prediction_weight
        self.register_buffer("adj", adjacency.clone())
        gril = (1 + n_time_features, n_layers, kernel_size, decoder_order)
        gril += (global_attention, layer_norm, dropout)
        self.bigrill = BiGRIL(len(adjacency), d_hidden, d_ff, d_emb, ff_dropout, *gril)

    def stages(
        self, x: Tensor, observed: Tensor, time_features: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The imputation, and both stages of both directions."""
        u = time_features[:, :, None].expand(-1, -1, x.shape[2], -1)
        x = torch.where(observed, x, 0.0)
        inputs = (a.permute(0, 3, 2, 1) for a in (x, observed, u))
        final, leading = self.bigrill(*inputs, supports_of(self.adj))
        return final.permute(0, 3, 2, 1), [stage.permute(0, 3, 2, 1) for stage in leading]

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        return self.stages(x, observed, time_features)[0]

    def loss(
        self, x: Tensor, observed: Tensor, time_features: Tensor, target: Tensor, visible: Tensor
    ) -> Tensor:
        final, leading = self.stages(x, observed, time_features)
        errors = sum(masked_mae(stage, target, visible) for stage in leading)
        return masked_mae(final, target, visible) + self.prediction_weight * errors
