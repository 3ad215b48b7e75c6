"""SPIN: spatiotemporal point inference network.

Marisca, Cini, Alippi. Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse
Observations. NeurIPS 2022. arXiv:2205.13479

Every entry (node, step) is a token. A layer attends from a token to all observed steps of its
neighbours (edge by edge, summed) and to the other observed steps of its own node; entries without
a reading take part only after the first `eta` layers, and only as neighbours.

Deviations from the published code: the whole graph is used in training (no k-hop sub-graphs), and
the temporal self-attention cannot be switched off. The table of positions is no part of the state.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from baselines.additive_attention import AdditiveAttention
from baselines.blocks import (
    MLP,
    NodeEmbedding,
    QueryEncoder,
    StdLayerNorm,
    batched_pairs,
    resolve_edges,
)
from baselines.layerwise import LayerwiseImputer
from baselines.pair_plan import PairPlan, plan_pairs


class GraphAttentionLayer(nn.Module):
    """Attention of every entry to its neighbours' entries and to its own node's other steps."""

    def __init__(self, d_hidden: int, message_layers: int, reweight: str) -> None:
        super().__init__()
        self.self_attention, self.cross_attention = (
            AdditiveAttention(
                d_source=d_hidden,
                d_target=d_hidden,
                d_out=d_hidden,
                d_message=d_hidden,
                message_layers=message_layers,
                reweight=reweight,
            )
            for _ in range(2)
        )
        self.lin_skip = nn.Linear(d_hidden, d_hidden)
        self.norm = StdLayerNorm(d_hidden)

    def forward(
        self, h: Float[Tensor, "r t d"], own: PairPlan, neighbours: PairPlan
    ) -> Float[Tensor, "r t d"]:
        """One layer; rows are the nodes of all samples."""
        out = self.cross_attention(h, h, neighbours) + self.self_attention(h, h, own)
        return self.norm(out + self.lin_skip(h))


class SPIN(LayerwiseImputer):
    """SPIN on a graph, whose weights are not used.

    Args:
        n_nodes: number of nodes.
        adjacency: [i, j] is the weight from i to j; nonzero entries become edges both ways.
        edge_index: edges as they are (source row, target row), instead of `adjacency`.
        d_hidden: width; even.
        n_layers: number of layers, each with a readout.
        eta: layers in which only observed entries of the neighbours are attended to.
        message_layers: Dense layers of the message networks.
        reweight: how scores become weights, see `AdditiveAttention`.
        n_time_features: sine and cosine of time of day and day of week.
    """

    edge_index: Tensor

    def __init__(
        self,
        *,
        n_nodes: int,
        adjacency: Float[Tensor, "n n"] | None = None,
        edge_index: Int[Tensor, "2 e"] | None = None,
        d_hidden: int = 32,
        n_layers: int = 4,
        eta: int = 3,
        message_layers: int = 1,
        reweight: str = "softmax",
        n_time_features: int = 4,
    ) -> None:
        super().__init__()
        edges = resolve_edges(n_nodes, adjacency, edge_index)
        self.register_buffer("edge_index", edges, persistent=False)
        self.eta = eta
        self.u_enc = QueryEncoder(n_time_features, d_hidden, n_nodes)
        self.h_enc = MLP(1, d_hidden, n_layers=2)
        self.h_norm = nn.LayerNorm(d_hidden)
        self.valid_emb = NodeEmbedding(n_nodes, d_hidden)
        self.mask_emb = NodeEmbedding(n_nodes, d_hidden)
        self.x_skip = nn.ModuleList(nn.Linear(1, d_hidden) for _ in range(n_layers))
        self.encoder = nn.ModuleList(
            GraphAttentionLayer(d_hidden, message_layers, reweight) for _ in range(n_layers)
        )
        self.readout = nn.ModuleList(MLP(d_hidden, d_hidden, 1, 2) for _ in range(n_layers))

    def predictions(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> list[Float[Tensor, "b t n 1"]]:
        """Reading of every entry after each layer, the last one being the result."""
        n_batch, n_steps, n_nodes, _ = x.shape
        seen = observed.transpose(1, 2)  # [b n t 1], as everything from here
        x = x.where(observed, 0.0).transpose(1, 2)
        own, neighbours, everybody = self._plans(seen)
        query = self.u_enc(time_features)
        h = self.h_norm(torch.where(seen, self.h_enc(x) + query, query))
        outputs = []
        for layer, encode in enumerate(self.encoder):
            if layer == self.eta:
                valid, missing = self.valid_emb()[:, None], self.mask_emb()[:, None]  # [n 1 d]
                h = h + torch.where(seen, valid, missing)
            h = h + self.x_skip[layer](x) * seen
            plan = neighbours if layer < self.eta else everybody
            h = encode(h.flatten(0, 1), own, plan).view(n_batch, n_nodes, n_steps, -1)
            outputs.append(self.readout[layer](h).transpose(1, 2))
        return outputs

    def _plans(self, seen: Bool[Tensor, "b n t 1"]) -> tuple[PairPlan, PairPlan, PairPlan]:
        """Own observed steps, the neighbours' observed steps, all steps of the neighbours."""
        n_batch, n_nodes, n_steps, _ = seen.shape
        usable = seen.reshape(-1, n_steps)
        rows = len(usable)
        diagonal = torch.arange(rows, device=seen.device).expand(2, -1)
        edges = batched_pairs(self.edge_index, n_batch, n_nodes)
        return (
            plan_pairs(diagonal, n_steps, usable, rows, other_steps_only=True),
            plan_pairs(edges, n_steps, usable, rows),
            plan_pairs(edges, n_steps, None, rows),
        )
