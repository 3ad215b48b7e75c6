"""Building blocks that SPIN, SPIN-H, Transformer and ImputeFormer share.

They follow the layers of torch_spatiotemporal 0.1.1 (Cini, Marisca, 2022, MIT licence), with its
parameter names: Dense, MLP, a LayerNorm of its own, sinusoidal positions, node embeddings.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

MAX_STEPS = 5000  # length of the table of positions, as published
NORM_EPS = 1e-5


class Dense(nn.Module):
    """Linear map, activation, dropout."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        activation: Literal["relu", "prelu"] = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        nonlinearity = nn.ReLU() if activation == "relu" else nn.PReLU(init=0.25)
        self.layer = nn.Sequential(nn.Linear(d_in, d_out), nonlinearity, nn.Dropout(dropout))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Apply to the last axis."""
        return self.layer(x)


class MLP(nn.Module):
    """`n_layers` Dense layers, then a linear `readout` if `d_out` is given."""

    def __init__(
        self,
        d_in: int,
        d_hidden: int,
        d_out: int | None = None,
        n_layers: int = 1,
        activation: Literal["relu", "prelu"] = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            *(
                Dense(d_hidden if i else d_in, d_hidden, activation, dropout)
                for i in range(n_layers)
            )
        )
        self.readout = None if d_out is None else nn.Linear(d_hidden, d_out)

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Apply to the last axis."""
        hidden: Tensor = self.mlp(x)
        return hidden if self.readout is None else self.readout(hidden)


class StdLayerNorm(nn.Module):
    """Layer normalisation that divides by `std + eps` (torch's divides by `sqrt(var + eps)`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Normalise the last axis (population standard deviation)."""
        centred = x - x.mean(-1, keepdim=True)
        # a constant row has std 0, where the derivative of the root would be infinite
        variance = centred.square().mean(-1, keepdim=True)
        std = variance.where(variance > 0, 1.0).sqrt().where(variance > 0, 0.0)
        return centred / (std + NORM_EPS) * self.weight + self.bias


class PositionalEncoding(nn.Module):
    """Sines and cosines of the time step, added to every node alike. `d_model` must be even."""

    pe: Tensor

    def __init__(self, d_model: int, max_steps: int = MAX_STEPS) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"positional encoding needs an even width, got {d_model}")
        step = torch.arange(max_steps, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model))
        table = torch.zeros(max_steps, 1, d_model)
        table[:, 0, 0::2] = torch.sin(step * rate)
        table[:, 0, 1::2] = torch.cos(step * rate)
        self.register_buffer("pe", table, persistent=False)

    def forward(self, x: Float[Tensor, "*batch t n d"]) -> Float[Tensor, "*batch t n d"]:
        """Add the encoding of step t to `x[..., t, :, :]`."""
        if x.shape[-3] > len(self.pe):
            raise ValueError(f"window of {x.shape[-3]} steps; at most {len(self.pe)} are encoded")
        return x + self.pe[: x.shape[-3]]


class NodeEmbedding(nn.Module):
    """A learned vector per row (node), uniform within 1/sqrt(d) at the start."""

    def __init__(self, n_rows: int, d: int) -> None:
        super().__init__()
        self.emb = nn.Parameter(torch.empty(n_rows, d).uniform_(-(d**-0.5), d**-0.5))

    def forward(self) -> Float[Tensor, "n d"]:
        """The whole table."""
        return self.emb


class QueryEncoder(nn.Module):
    """What SPIN knows of an entry without its reading: time of day and week, node, position.

    `PE(MLP(LeakyReLU(Linear(u_t) + embedding_n)))`, leaky slope 0.01.
    """

    def __init__(self, n_time_features: int, d_hidden: int, n_nodes: int | None) -> None:
        super().__init__()
        self.lin = nn.Linear(n_time_features, d_hidden)
        self.mlp = MLP(d_hidden, d_hidden, d_hidden, n_layers=2)
        self.node_emb = None if n_nodes is None else NodeEmbedding(n_nodes, d_hidden)
        self.positional = PositionalEncoding(d_hidden)

    def forward(
        self, time_features: Float[Tensor, "b t f"], nodes: Float[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "b n t d"]:
        """Queries of all entries; `nodes` are the node vectors where the encoder has none."""
        embedding = self.node_emb() if self.node_emb is not None else nodes
        if embedding is None:
            raise ValueError("an encoder without node embeddings needs the argument `nodes`")
        hidden = F.leaky_relu(self.lin(time_features)[:, :, None] + embedding)  # [b t n d]
        query: Tensor = self.positional(self.mlp(hidden))
        return query.transpose(1, 2)


def resolve_edges(
    n_nodes: int,
    adjacency: Float[Tensor, "n n"] | None,
    edge_index: Int[Tensor, "2 e"] | None,
) -> Int[Tensor, "2 e"]:
    """Directed edges, row 0 the source and row 1 the target, from exactly one of both.

    Args:
        n_nodes: number of nodes.
        adjacency: weights, [i, j] from node i to node j. Entries that are not 0 become edges in
            both directions; self loops are dropped.
        edge_index: edges, used as they are.
    """
    if (adjacency is None) == (edge_index is None):
        raise ValueError("give exactly one of `adjacency` and `edge_index`")
    if adjacency is not None:
        if adjacency.shape != (n_nodes, n_nodes):
            raise ValueError(
                f"adjacency must be {n_nodes} x {n_nodes} (n_nodes), got {tuple(adjacency.shape)}"
            )
        linked = (adjacency != 0) | (adjacency.T != 0)
        return linked.fill_diagonal_(False).nonzero().T.contiguous()
    assert edge_index is not None
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < n_nodes:
        raise ValueError(
            f"edge_index names node {int(edge_index.min())} to {int(edge_index.max())}; "
            f"valid are 0 to {n_nodes - 1}"
        )
    return edge_index


def batched_pairs(edge_index: Int[Tensor, "2 e"], n_batch: int, n_nodes: int) -> Int[Tensor, "2 p"]:
    """Edges of every sample of a batch, as rows of tensors flattened to `[(b n) ...]`."""
    offset = torch.arange(n_batch, device=edge_index.device) * n_nodes
    return (edge_index[:, None] + offset[:, None]).flatten(1)
