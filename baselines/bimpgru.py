"""BiMPGRU: MPGRU in both directions of time, their states merged by a perceptron.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298. Ablation of the paper: GRIN without its
spatial decoder.

Parameters bear the published names; a published state dict loads as it is. Deviations are those
of `baselines.mpgru`, and:

* states are merged before they have read the step (the published default), and by the perceptron;
  the other choices are left out;
* the published configuration asks for a node embedding of width 8, under a name that its network
  does not read, so none was used; the default here is none.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.directions import for_nodes, in_time_order, merge, two_directions
from baselines.graph_gru import StackSizes, both_ways
from baselines.losses import masked_mae
from baselines.mpgru import GCGRU, one_step_ahead


class BiMPGRU(nn.Module):
    """Bidirectional graph recurrent imputation."""

    adj: Tensor

    def __init__(
        self,
        adjacency: Float[Tensor, "n n"],
        d_hidden: int = 64,
        d_ff: int = 64,
        d_emb: int = 0,
        n_layers: int = 1,
        kernel_size: int = 2,
        layer_norm: bool = False,
        dropout: float = 0.0,
        n_time_features: int = 0,
    ) -> None:
        """Build both directions and their merger.

        Args:
            adjacency: weight of the edge from node i to node j; no self loops.
            d_hidden: width of the recurrent state.
            d_ff: width of the merging perceptron.
            d_emb: width of the node embedding; 0 for none.
            n_layers: stacked recurrent cells.
            kernel_size: hops of the graph convolutions.
            layer_norm: normalise the states.
            dropout: between recurrent layers.
            n_time_features: exogenous features of a step.
        """
        super().__init__()
        n_nodes = len(adjacency)
        self.register_buffer("adj", adjacency.clone())
        sizes = StackSizes(
            n_nodes, 2 + n_time_features, d_hidden, n_layers, kernel_size, layer_norm, dropout
        )
        self.gcgru_fwd, self.gcgru_bwd = GCGRU(sizes), GCGRU(sizes)
        self.emb = nn.Parameter(torch.empty(d_emb, n_nodes)) if d_emb else None
        if self.emb is not None:
            nn.init.kaiming_normal_(self.emb)
        self.out = nn.Sequential(
            nn.Conv2d(2 * d_hidden + 1 + d_emb, d_ff, kernel_size=1),
            nn.ReLU(),
            nn.Conv2d(d_ff, 1, kernel_size=1),
        )

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Predict every entry from the steps before it and those after it.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: `n_time_features` of them for each step.
        """
        n_nodes = x.shape[2]
        inputs = (x.where(observed, 0.0), observed, for_nodes(time_features, n_nodes))
        x, observed, features = (two_directions(a) for a in inputs)
        directions = [self.gcgru_fwd, self.gcgru_bwd]
        _, states = one_step_ahead(directions, x, observed, features, both_ways(self.adj))
        emb = x.new_empty(0, n_nodes) if self.emb is None else self.emb
        return merge(self.out, in_time_order(states), observed[:, 0], emb).permute(2, 0, 1, 3)

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Error of the merged prediction on all labels; the directions' own are not counted.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: as in `forward`.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        return masked_mae(self(x, observed, time_features), target, visible)
