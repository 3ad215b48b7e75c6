"""GRIN: a recurrent graph network per time direction, with a spatial decoder at every step.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298.

Parameters bear the published names; a published state dict loads as it is. Deviations:

* `forward` returns the prediction of every entry; the published model copies the observed ones
  through when it is not training;
* the published network takes the adjacency from its first training batch, this one from its
  constructor (or its state dict);
* the two directions are merged by the perceptron of the paper; the other reductions are left out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.directions import for_nodes, in_time_order, merge, two_directions
from baselines.graph_gru import (
    GCGRUStack,
    GraphGRU,
    StackSizes,
    affine,
    both_ways,
)
from baselines.grin_decoder import Decoder, SpatialDecoder
from baselines.losses import masked_mae


class Imputation(NamedTuple):
    """The final imputation, and the two of each direction that lead to it; all cover every entry.

    Axis 0 of the stages is forward, backward; time runs forward in both.
    """

    final: Float[Tensor, "b t n 1"]
    first_stage: Float[Tensor, "2 b t n 1"]
    second_stage: Float[Tensor, "2 b t n 1"]


class GRIN(nn.Module):
    """Graph recurrent imputation network."""

    adj: Tensor

    def __init__(
        self,
        adjacency: Float[Tensor, "n n"],
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
    ) -> None:
        """Build both directions and their merger.

        Args:
            adjacency: weight of the edge from node i to node j; no self loops.
            d_hidden: width of the recurrent state.
            d_ff: width of the merging perceptron.
            d_emb: width of the node embedding.
            n_layers: stacked recurrent cells.
            kernel_size: hops of the cells' graph convolutions.
            decoder_order: hops of the decoder's graph convolution.
            global_attention: let each node of the decoder attend to all others.
            layer_norm: normalise the states.
            dropout: between recurrent layers.
            ff_dropout: in the merging perceptron.
            n_time_features: exogenous features of a step.
            prediction_weight: weight in the loss of what leads to the imputation.
        """
        super().__init__()
        n_nodes = len(adjacency)
        if global_attention and n_nodes < 2:
            raise ValueError(f"global attention needs other nodes to attend to, got {n_nodes} node")
        self.prediction_weight = prediction_weight
        self.register_buffer("adj", adjacency.clone())
        sizes = StackSizes(
            n_nodes, 2 + n_time_features, d_hidden, n_layers, kernel_size, layer_norm, dropout
        )
        fwd_rnn, bwd_rnn = (GRIL(sizes, decoder_order, global_attention) for _ in range(2))
        self.bigrill = BiGRIL(fwd_rnn, bwd_rnn, d_ff, d_emb, ff_dropout)

    def stages(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        exogenous: Float[Tensor, "b t n f"],
    ) -> Imputation:
        """All that is estimated; arguments as in `forward`, but with features of every node."""
        x = x.where(observed, 0.0)
        found: Imputation = self.bigrill(x, observed, exogenous, both_ways(self.adj))
        return found

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Predict every entry.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: `n_time_features` of them for each step.
        """
        return self.stages(x, observed, for_nodes(time_features, x.shape[2])).final

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Error of the imputation and, weighted, of both stages of both directions.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: as in `forward`.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        found = self.stages(x, observed, for_nodes(time_features, x.shape[2]))
        return self.error(found, target, visible)

    def error(
        self,
        found: Imputation,
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """The loss of an imputation with its stages; arguments as in `loss`."""
        leading = [
            masked_mae(direction, target, visible)
            for stage in (found.first_stage, found.second_stage)
            for direction in stage
        ]
        error = masked_mae(found.final, target, visible)
        return error + self.prediction_weight * torch.stack(leading).sum()


class BiGRIL(nn.Module):
    """Both directions and the perceptron that merges their representations."""

    def __init__(
        self, fwd_rnn: "GRIL", bwd_rnn: "GRIL", d_ff: int, d_emb: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = fwd_rnn.sizes
        self.fwd_rnn, self.bwd_rnn = fwd_rnn, bwd_rnn
        self.emb = nn.Parameter(torch.empty(d_emb, sizes.n_nodes))
        nn.init.kaiming_normal_(self.emb)
        self.out = nn.Sequential(
            nn.Conv2d(4 * sizes.d_hidden + 1 + d_emb, d_ff, kernel_size=1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(d_ff, 1, kernel_size=1),
        )

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        exogenous: Float[Tensor, "b t n f"],
        supports: Float[Tensor, "2 n n"],
    ) -> Imputation:
        """Impute; `x` must be finite everywhere."""
        x, observed, exogenous = (two_directions(a) for a in (x, observed, exogenous))
        directions = [self.fwd_rnn, self.bwd_rnn]
        cells, first_stage = GraphGRU(directions, supports), affine(directions, "first_stage")
        decode = Decoder([direction.spatial_decoder for direction in directions], supports)

        states, steps = cells.start(x.shape[3]), []
        for x_t, seen, known in zip(x, observed, torch.cat([observed, exogenous], -1), strict=True):
            first = first_stage(states[-1])
            second, representation = decode(x_t.where(seen, first), known, states[-1])
            states = cells.step(torch.cat([x_t.where(seen, second), known], -1), states)
            steps.append((first, second, representation))
        first, second, representation = (in_time_order(s) for s in zip(*steps, strict=True))
        final = merge(self.out, representation, observed[:, 0], self.emb)
        return Imputation(*(a.movedim(-2, -4) for a in (final, first, second)))


class GRIL(GCGRUStack):
    """Parameters of one direction."""

    def __init__(self, sizes: StackSizes, decoder_order: int, global_attention: bool) -> None:
        super().__init__(sizes)
        self.first_stage = nn.Conv1d(sizes.d_hidden, 1, kernel_size=1)
        self.spatial_decoder = SpatialDecoder(sizes, decoder_order, global_attention)
