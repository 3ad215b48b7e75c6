"""SPIN-H: the hierarchical variant of SPIN.

Marisca, Cini, Alippi. Learning to Reconstruct Missing Data from Spatiotemporal Graphs with Sparse
Observations. NeurIPS 2022. arXiv:2205.13479 (appendix on the hierarchical attention).

Each node summarises its observed steps in a few latent slots z; the steps of a node and of its
neighbours then attend to slots instead of to steps, which makes a layer linear in the window.

Deviations from the published code: the whole graph is used in training (no k-hop sub-graphs). The
table of positions is no part of the state. As published, `encoder.*.lin_alpha_z` gets no gradient
unless `update_z_cross`, and without it the first `eta` layers differ from the others in nothing.
"""

from typing import ClassVar

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
from baselines.edge_sums import sums_by_target
from baselines.layerwise import LayerwiseImputer
from baselines.pair_plan import plan_pairs

AGGREGATIONS = ("add", "softmax")


class Plans:
    """Pairs of a batch: within nodes, along edges, and to the per-edge slots."""

    def __init__(self, edge_index: Tensor, seen: Bool[Tensor, "b n t 1"], n_slots: int) -> None:
        n_batch, n_nodes, n_steps, _ = seen.shape
        usable = seen.reshape(-1, n_steps)
        self.n_rows = len(usable)
        node = torch.arange(self.n_rows, device=seen.device).expand(2, -1)
        edges = batched_pairs(edge_index, n_batch, n_nodes)
        self.target = edges[1]
        each = torch.stack([torch.arange(len(self.target), device=seen.device), self.target])
        self.observed_to_slots = plan_pairs(node, n_steps, usable, self.n_rows)
        self.slots_to_steps = plan_pairs(node, n_slots, None, self.n_rows)
        self.edge_observed_to_slots = plan_pairs(edges, n_steps, usable)
        self.edge_steps_to_slots = plan_pairs(edges, n_steps)
        self.edge_slots_to_steps = plan_pairs(edges, n_slots)
        self.own_slots_to_steps = plan_pairs(each, n_slots)


class HierarchicalLayer(nn.Module):
    """One layer on steps h and slots z; `z_cross` lets the slots see the neighbours' steps."""

    def __init__(
        self,
        *,
        h_size: int,
        z_size: int,
        message_layers: int,
        reweight: str,
        z_cross: bool,
        norm: bool,
        aggregation: str,
    ) -> None:
        super().__init__()

        def to_slots() -> AdditiveAttention:
            return AdditiveAttention(
                d_source=h_size,
                d_target=z_size,
                d_out=z_size,
                d_message=h_size,
                message_layers=message_layers,
                reweight=reweight,
                root_weight=True,
                norm=norm,
            )

        def to_steps(reweight: str) -> AdditiveAttention:
            return AdditiveAttention(
                d_source=z_size,
                d_target=h_size,
                d_out=h_size,
                d_message=h_size,
                message_layers=message_layers,
                reweight=reweight,
                root_weight=True,
            )

        self.zh_self, self.hz_self = to_slots(), to_steps(reweight)
        self.zh_cross = to_slots() if z_cross else None
        self.hz_cross = to_steps("none")
        weighted = aggregation == "softmax"
        self.lin_alpha_h = nn.Linear(h_size, 1, bias=False) if weighted else None
        self.lin_alpha_z = nn.Linear(z_size, 1, bias=False) if weighted else None
        self.h_skip, self.z_skip = nn.Linear(h_size, h_size), nn.Linear(z_size, z_size)
        self.h_norm, self.z_norm = StdLayerNorm(h_size), StdLayerNorm(z_size)

    def forward(
        self, h: Float[Tensor, "r t d"], z: Float[Tensor, "r k e"], plans: Plans, masked: bool
    ) -> tuple[Float[Tensor, "r t d"], Float[Tensor, "r k e"]]:
        """One layer; rows are the nodes of all samples. `masked`: hide neighbours' gaps."""
        slots = self.zh_self(h, z, plans.observed_to_slots)
        steps = self.hz_self(slots, h, plans.slots_to_steps)
        if self.zh_cross is None:
            pooled = self.hz_cross.pool(slots, steps, plans.edge_slots_to_steps)
        else:
            plan = plans.edge_observed_to_slots if masked else plans.edge_steps_to_slots
            edge_slots = self.zh_cross(steps, slots, plan)  # [p k e]
            pooled = self.hz_cross.pool(edge_slots, steps, plans.own_slots_to_steps)
            score = None if self.lin_alpha_z is None else self.lin_alpha_z(edge_slots)
            (slots,) = sums_by_target(score, plans.target, plans.n_rows, edge_slots)
        received = self._receive(*pooled, steps, plans)
        return self.h_norm(received + self.h_skip(h)), self.z_norm(slots + self.z_skip(z))

    def _receive(
        self,
        pooled: Float[Tensor, "p t d"],
        total: Float[Tensor, "p t"],
        steps: Float[Tensor, "r t d"],
        plans: Plans,
    ) -> Float[Tensor, "r t d"]:
        """Sum of the messages of incoming edges, weighted by a softmax of their scores if any.

        A message is linear in its pooled values and in its target, so it is these that are summed.
        """
        assert self.hz_cross.lin_skip is not None
        root, total, score = self.hz_cross.lin_skip(steps), total[..., None], None
        if self.lin_alpha_h is not None:
            weight, readout = self.lin_alpha_h.weight[0], self.hz_cross.readout
            score = pooled @ (weight @ readout.weight) + total[..., 0] * (weight @ readout.bias)
            score = score[..., None] + self.lin_alpha_h(root)[plans.target]
        sums = sums_by_target(
            score, plans.target, plans.n_rows, pooled, total, torch.ones_like(total)
        )
        return self.hz_cross.read(sums[0], sums[1][..., 0]) + sums[2] * root


class SPINH(LayerwiseImputer):
    """SPIN-H on a graph, whose weights are not used.

    Args:
        n_nodes: number of nodes.
        adjacency: [i, j] is the weight from i to j; nonzero entries become edges both ways.
        edge_index: edges as they are (source row, target row), instead of `adjacency`.
        h_size: width of the steps; even.
        z_size: width of the slots.
        z_heads: slots per node.
        n_layers: number of layers, each with a readout.
        eta: layer at which embeddings of observed and missing entries are added, and from which
            on slots attend to all steps of the neighbours (only with `update_z_cross`).
        message_layers: Dense layers of the message networks.
        reweight: how scores become weights, see `AdditiveAttention`.
        update_z_cross: update the slots from the neighbours' steps too.
        norm: LayerNorm on updated slots.
        spatial_aggr: how messages of incoming edges are joined, "add" or "softmax".
        n_time_features: sine and cosine of time of day and day of week.
    """

    edge_index: Tensor

    UNUSED_PARAMETERS: ClassVar = (
        "lin_alpha_z.weight",
        "4.z_skip.weight",
        "4.z_skip.bias",
        "4.z_norm.weight",
        "4.z_norm.bias",
    )
    """Ends of the names of published parameters without a gradient in the default configuration."""

    def __init__(
        self,
        *,
        n_nodes: int,
        adjacency: Float[Tensor, "n n"] | None = None,
        edge_index: Int[Tensor, "2 e"] | None = None,
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
    ) -> None:
        super().__init__()
        if spatial_aggr not in AGGREGATIONS:
            raise ValueError(f"unknown spatial_aggr {spatial_aggr!r}; choose one of {AGGREGATIONS}")
        edges = resolve_edges(n_nodes, adjacency, edge_index)
        self.register_buffer("edge_index", edges, persistent=False)
        self.eta = eta
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
                h_size=h_size,
                z_size=z_size,
                message_layers=message_layers,
                reweight=reweight,
                z_cross=update_z_cross,
                norm=norm,
                aggregation=spatial_aggr,
            )
            for _ in range(n_layers)
        )
        self.readout = nn.ModuleList(MLP(h_size, z_size, 1, 2) for _ in range(n_layers))

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
        v1, m1, v2, m2 = (table()[:, None] for table in (self.v1, self.m1, self.v2, self.m2))
        nodes = self.v()
        slots = self.z_norm(self.z[0].transpose(0, 1) + self.lin_v(nodes)[:, None])  # [n k e]
        z = slots.expand(n_batch, -1, -1, -1).flatten(0, 1)  # [(b n) k e]
        plans = Plans(self.edge_index, seen, z.shape[1])
        query = self.u_enc(time_features, nodes)
        h = self.h_norm(torch.where(seen, self.h_enc(x) + query + v1, query + m1))
        outputs = []
        for layer, encode in enumerate(self.encoder):
            if layer == self.eta:
                h = h + torch.where(seen, v2, m2)
            h = h + self.x_skip[layer](x) * seen
            h, z = encode(h.flatten(0, 1), z, plans, layer < self.eta)
            h = h.view(n_batch, n_nodes, n_steps, -1)
            outputs.append(self.readout[layer](h).transpose(1, 2))
        return outputs
