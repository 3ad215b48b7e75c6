"""SPIN as one would write it down from the paper: every pair of steps has its message in memory.

Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse Observations, NeurIPS
2022, arXiv:2205.13479. Inside, the axes are `[b n t d]`. Parameters under the published names; the
table of positions is no part of the state.
"""

import math

import torch
import torch.nn.functional as F
from plain_parts import MLP, masked_mae
from torch import Tensor, nn


def edges_of(adjacency: Tensor | None, edge_index: Tensor | None) -> Tensor:
    """Row of sources, row of targets: the given edges, or the adjacency's in both directions."""
    if adjacency is None:
        return edge_index
    linked = (adjacency != 0) | (adjacency.T != 0)
    return linked.fill_diagonal_(False).nonzero().T


class StdLayerNorm(nn.Module):
    """Layer normalisation with eps outside the root."""

    def __init__(self, d: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = x.mean(-1, keepdim=True), x.std(-1, correction=0, keepdim=True)
        return (x - mean) / (std + 1e-5) * self.weight + self.bias


class NodeEmbedding(nn.Module):
    """A learned vector per node, laid out for every step."""

    def __init__(self, n_nodes: int, d: int):
        super().__init__()
        self.emb = nn.Parameter(torch.empty(n_nodes, d).uniform_(-(d**-0.5), d**-0.5))

    def forward(self) -> Tensor:  # [n 1 d]
        return self.emb[:, None]


class QueryEncoder(nn.Module):
    """What is known of an entry without its reading: time, node, position in the window."""

    def __init__(self, n_time_features: int, d: int, n_nodes: int | None, max_steps: int = 5000):
        super().__init__()
        self.lin = nn.Linear(n_time_features, d)
        self.mlp = MLP(d, d, d, n_layers=2)
        self.node_emb = None if n_nodes is None else NodeEmbedding(n_nodes, d)
        rate = torch.exp(torch.arange(0, d, 2) * (-math.log(10000.0) / d))
        angle = torch.arange(max_steps)[:, None] * rate
        pe = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, time_features: Tensor, nodes: Tensor | None = None) -> Tensor:
        nodes = self.node_emb() if nodes is None else nodes
        hidden = F.leaky_relu(self.lin(time_features)[:, None] + nodes)
        return self.mlp(hidden) + self.pe[: hidden.shape[2]]


def sparse_softmax(score: Tensor, usable: Tensor) -> Tensor:
    """Softmax over axis -2 of the usable ones; zeros where there is none."""
    score = score.masked_fill(~usable, -torch.inf)
    peak = score.detach().amax(-2, keepdim=True)
    e = torch.exp(score - peak.masked_fill(peak == -torch.inf, 0.0))
    return e / (e.sum(-2, keepdim=True) + 5e-8)


class AdditiveAttention(nn.Module):
    """Attention from all steps of a source sequence to each step of a target sequence."""

    def __init__(
        self,
        d_source: int,
        d_target: int,
        d_out: int,
        d_message: int,
        message_layers: int,
        reweight: str,
        root_weight: bool = False,
        norm: bool = False,
    ):
        super().__init__()
        self.reweight = reweight
        self.lin_src = nn.Linear(d_source, d_out)
        self.lin_tgt = nn.Linear(d_target, d_out, bias=False)
        message = MLP(d_out, d_message, d_out, message_layers, nn.PReLU)
        self.msg_nn = nn.Sequential(nn.PReLU(init=0.2), message)
        if reweight == "softmax":
            self.msg_gate = nn.Linear(d_out, 1, bias=False)
        else:
            self.msg_gate = nn.Sequential(nn.Linear(d_out, 1), nn.Sigmoid())
        self.lin_skip = nn.Linear(d_target, d_out, bias=False) if root_weight else None
        self.norm = nn.LayerNorm(d_out) if norm else nn.Identity()
        nn.init.xavier_uniform_(self.lin_src.weight)
        nn.init.zeros_(self.lin_src.bias)
        nn.init.xavier_uniform_(self.lin_tgt.weight)

    def forward(
        self, source: Tensor, target: Tensor, seen: Tensor | None = None, others_only: bool = False
    ) -> Tensor:
        """`source` is [b r s d], `target` [b r t d], `seen` [b r s 1]: steps that may be used."""
        pairs = self.lin_src(source)[:, :, None] + self.lin_tgt(target)[:, :, :, None]
        messages = self.msg_nn(pairs)  # [b r t s d]
        usable = torch.ones_like(messages[..., :1], dtype=torch.bool)
        if seen is not None:
            usable = usable & seen[:, :, None]
        if others_only:
            itself = torch.eye(source.shape[2], dtype=torch.bool, device=source.device)
            usable = usable & ~itself[..., None]
        out = (self.weights(self.msg_gate(messages), usable) * messages).sum(-2)
        if self.lin_skip is not None:
            out = out + self.lin_skip(target)
        return self.norm(out)

    def weights(self, gate: Tensor, usable: Tensor) -> Tensor:
        if self.reweight == "softmax":
            return sparse_softmax(gate, usable)
        gate = gate.masked_fill(~usable, 0.0)
        return gate / (gate.sum(-2, keepdim=True) + 1e-5) if self.reweight == "l1" else gate


class GraphAttentionLayer(nn.Module):
    """Attention to the neighbours, edge by edge, and to the node's own other steps."""

    def __init__(self, d: int, message_layers: int, reweight: str):
        super().__init__()
        self.self_attention, self.cross_attention = (
            AdditiveAttention(d, d, d, d, message_layers, reweight) for _ in range(2)
        )
        self.lin_skip = nn.Linear(d, d)
        self.norm = StdLayerNorm(d)

    def forward(self, h: Tensor, seen: Tensor, edges: Tensor, hide_gaps: bool) -> Tensor:
        source, target = edges
        usable = seen[:, source] if hide_gaps else None
        messages = self.cross_attention(h[:, source], h[:, target], usable)  # [b e t d]
        cross = messages.new_zeros(h.shape).index_add(1, target, messages)
        own = self.self_attention(h, h, seen, others_only=True)
        return self.norm(cross + own + self.lin_skip(h))


class LayerwiseImputer(nn.Module):
    """A network with a prediction after each layer: the last is the result, all are trained."""

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        return self.predictions(x, observed, time_features)[-1]

    def loss(
        self, x: Tensor, observed: Tensor, time_features: Tensor, target: Tensor, visible: Tensor
    ) -> Tensor:
        outputs = self.predictions(x, observed, time_features)
        return sum(masked_mae(y, target, visible & ~observed) for y in outputs)


class PlainSPIN(LayerwiseImputer):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        *,
        n_nodes: int,
        adjacency: Tensor | None = None,
        edge_index: Tensor | None = None,
        d_hidden: int = 32,
        n_layers: int = 4,
        eta: int = 3,
        message_layers: int = 1,
        reweight: str = "softmax",
        n_time_features: int = 4,
    ):
        super().__init__()
        d, self.eta = d_hidden, eta
        self.register_buffer("edge_index", edges_of(adjacency, edge_index), persistent=False)
        self.u_enc = QueryEncoder(n_time_features, d, n_nodes)
        self.h_enc = MLP(1, d, n_layers=2)
        self.h_norm = nn.LayerNorm(d)
        self.valid_emb, self.mask_emb = NodeEmbedding(n_nodes, d), NodeEmbedding(n_nodes, d)
        self.x_skip = nn.ModuleList(nn.Linear(1, d) for _ in range(n_layers))
        self.encoder = nn.ModuleList(
            GraphAttentionLayer(d, message_layers, reweight) for _ in range(n_layers)
        )
        self.readout = nn.ModuleList(MLP(d, d, 1, n_layers=2) for _ in range(n_layers))

    def predictions(self, x: Tensor, observed: Tensor, time_features: Tensor) -> list[Tensor]:
        seen = observed.transpose(1, 2)
        x = torch.where(observed, x, 0.0).transpose(1, 2)
        q = self.u_enc(time_features)
        h = self.h_norm(torch.where(seen, self.h_enc(x) + q, q))
        outputs = []
        for layer, encode in enumerate(self.encoder):
            if layer == self.eta:
                h = h + torch.where(seen, self.valid_emb(), self.mask_emb())
            h = h + self.x_skip[layer](x) * seen
            h = encode(h, seen, self.edge_index, hide_gaps=layer < self.eta)
            outputs.append(self.readout[layer](h).transpose(1, 2))
        return outputs
