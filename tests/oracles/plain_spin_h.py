"""SPIN-H as one would write it down from the paper: SPIN's attentions through a few slots a node.

Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse Observations, NeurIPS
2022, arXiv:2205.13479, the hierarchical variant. Inside, steps are `h` `[b n t d]` and slots `z`
`[b n k e]`. Parameters under the published names; the table of positions is no part of the state.
"""

import torch
from plain_parts import MLP
from plain_spin import (
    AdditiveAttention,
    LayerwiseImputer,
    NodeEmbedding,
    QueryEncoder,
    StdLayerNorm,
    edges_of,
)
from torch import Tensor, nn


def softmax_by_target(score: Tensor, target: Tensor, n_nodes: int) -> Tensor:
    """Softmax over the edges (axis 1) that end in the same node."""
    b, _, t, _ = score.shape
    index = target[None, :, None, None].expand_as(score)
    lowest = score.new_full((b, n_nodes, t, 1), -torch.inf)
    peak = lowest.scatter_reduce(1, index, score.detach(), "amax")
    e = torch.exp(score - peak[:, target])
    total = e.new_zeros(peak.shape).index_add(1, target, e)
    return e / (total[:, target] + 5e-8)


class HierarchicalLayer(nn.Module):
    """Steps to slots, slots to steps, and the same along the edges."""

    def __init__(
        self,
        h_size: int,
        z_size: int,
        message_layers: int,
        reweight: str,
        update_z_cross: bool,
        norm: bool,
        spatial_aggr: str,
    ):
        super().__init__()
        to_slots = (h_size, z_size, z_size, h_size, message_layers)
        to_steps = (z_size, h_size, h_size, h_size, message_layers)
        self.zh_self = AdditiveAttention(*to_slots, reweight, root_weight=True, norm=norm)
        self.hz_self = AdditiveAttention(*to_steps, reweight, root_weight=True)
        self.zh_cross = None
        if update_z_cross:
            self.zh_cross = AdditiveAttention(*to_slots, reweight, root_weight=True, norm=norm)
        self.hz_cross = AdditiveAttention(*to_steps, "none", root_weight=True)
        weighted = spatial_aggr == "softmax"
        self.lin_alpha_h = nn.Linear(h_size, 1, bias=False) if weighted else None
        self.lin_alpha_z = nn.Linear(z_size, 1, bias=False) if weighted else None
        self.h_skip, self.z_skip = nn.Linear(h_size, h_size), nn.Linear(z_size, z_size)
        self.h_norm, self.z_norm = StdLayerNorm(h_size), StdLayerNorm(z_size)

    def forward(
        self, h: Tensor, z: Tensor, seen: Tensor, edges: Tensor, hide_gaps: bool
    ) -> tuple[Tensor, Tensor]:
        source, target = edges
        new_z = self.zh_self(h, z, seen)
        new_h = self.hz_self(new_z, h)
        if self.zh_cross is None:
            messages = self.hz_cross(new_z[:, source], new_h[:, target])  # [b e t d]
        else:
            usable = seen[:, source] if hide_gaps else None
            edge_z = self.zh_cross(new_h[:, source], new_z[:, target], usable)  # [b e k e]
            messages = self.hz_cross(edge_z, new_h[:, target])
            new_z = self.aggregate(edge_z, target, h.shape[1], self.lin_alpha_z)
        received = self.aggregate(messages, target, h.shape[1], self.lin_alpha_h)
        return self.h_norm(received + self.h_skip(h)), self.z_norm(new_z + self.z_skip(z))

    @staticmethod
    def aggregate(
        messages: Tensor, target: Tensor, n_nodes: int, score: nn.Linear | None
    ) -> Tensor:
        """Sum of the messages that reach a node, weighted by a softmax of their scores if any."""
        if score is not None:
            messages = softmax_by_target(score(messages), target, n_nodes) * messages
        b, _, t, d = messages.shape
        return messages.new_zeros(b, n_nodes, t, d).index_add(1, target, messages)


class PlainSPINH(LayerwiseImputer):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        *,
        n_nodes: int,
        adjacency: Tensor | None = None,
        edge_index: Tensor | None = None,
        h_size: int = 32,
        z_size: int = 128,
        z_heads: int = 4,
        n_layers: int = 5,
        eta: int = 3,
        message_layers: int = 1,
        reweight: str = "softmax",
        update_z_cross: bool = False,
        norm: bool = True,
        spatial_aggr: str = "softmax",
        n_time_features: int = 4,
    ):
        super().__init__()
        self.eta = eta
        self.register_buffer("edge_index", edges_of(adjacency, edge_index), persistent=False)
        bound = z_size**-0.5
        self.z = nn.Parameter(torch.empty(1, z_heads, n_nodes, z_size).uniform_(-bound, bound))
        self.v = NodeEmbedding(n_nodes, h_size)
        self.lin_v = nn.Linear(h_size, z_size, bias=False)
        self.z_norm = nn.LayerNorm(z_size)
        self.u_enc = QueryEncoder(n_time_features, h_size, None)
        self.h_enc = MLP(1, h_size, n_layers=2)
        self.h_norm = nn.LayerNorm(h_size)
        self.v1, self.m1, self.v2, self.m2 = (NodeEmbedding(n_nodes, h_size) for _ in range(4))
        self.x_skip = nn.ModuleList(nn.Linear(1, h_size) for _ in range(n_layers))
        self.encoder = nn.ModuleList(
            HierarchicalLayer(
                h_size, z_size, message_layers, reweight, update_z_cross, norm, spatial_aggr
            )
            for _ in range(n_layers)
        )
        self.readout = nn.ModuleList(MLP(h_size, z_size, 1, n_layers=2) for _ in range(n_layers))

    def predictions(self, x: Tensor, observed: Tensor, time_features: Tensor) -> list[Tensor]:
        seen = observed.transpose(1, 2)
        x = torch.where(observed, x, 0.0).transpose(1, 2)
        v = self.v()
        z = self.z_norm(self.z.transpose(1, 2) + self.lin_v(v)).expand(len(x), -1, -1, -1)
        q = self.u_enc(time_features, v)
        h = torch.where(seen, self.h_enc(x) + q + self.v1(), q + self.m1())
        h = self.h_norm(h)
        outputs = []
        for layer, encode in enumerate(self.encoder):
            if layer == self.eta:
                h = h + torch.where(seen, self.v2(), self.m2())
            h = h + self.x_skip[layer](x) * seen
            h, z = encode(h, z, seen, self.edge_index, hide_gaps=layer < self.eta)
            outputs.append(self.readout[layer](h).transpose(1, 2))
        return outputs
