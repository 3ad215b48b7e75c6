"""MPGRU: a recurrent graph network that predicts each step from those before it.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298. Baseline of the paper: GRIN without its
spatial decoder and without its backward direction.

Parameters bear the published names; a published state dict loads as it is. Deviations:

* `forward` returns the prediction of every entry; the published model copies the observed ones
  through when it is not training;
* the published network takes the adjacency from its first training batch, this one from its
  constructor (or its state dict).
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.directions import for_nodes
from baselines.graph_gru import (
    GCGRUStack,
    GraphGRU,
    StackSizes,
    affine,
    both_ways,
    prelu,
    stacked,
)
from baselines.losses import masked_mae


class GCGRU(GCGRUStack):
    """Parameters of one direction: the cells, and the readout of the next step from their state."""

    def __init__(self, sizes: StackSizes, d_ff: int = 0) -> None:
        """Create them; `d_ff` is the width of the readout's hidden layer, 0 for none."""
        super().__init__(sizes)
        width = sizes.d_hidden
        self.pred_readout: nn.Module
        if d_ff:
            self.pred_readout = nn.Sequential(
                nn.Conv1d(width, d_ff, kernel_size=1),
                nn.PReLU(),
                nn.Conv1d(d_ff, 1, kernel_size=1),
            )
        else:
            self.pred_readout = nn.Conv1d(width, 1, kernel_size=1)


class MPGRU(nn.Module):
    """One-step-ahead graph recurrent imputation."""

    adj: Tensor

    def __init__(
        self,
        adjacency: Float[Tensor, "n n"],
        d_hidden: int = 64,
        d_ff: int = 64,
        n_layers: int = 1,
        kernel_size: int = 2,
        layer_norm: bool = False,
        dropout: float = 0.0,
        n_time_features: int = 0,
    ) -> None:
        """Build the network.

        Args:
            adjacency: weight of the edge from node i to node j; no self loops.
            d_hidden: width of the recurrent state.
            d_ff: width of the readout's hidden layer; 0 for a linear readout.
            n_layers: stacked recurrent cells.
            kernel_size: hops of the graph convolutions.
            layer_norm: normalise the states.
            dropout: between recurrent layers.
            n_time_features: exogenous features of a step.
        """
        super().__init__()
        self.register_buffer("adj", adjacency.clone())
        sizes = StackSizes(
            len(adjacency),
            2 + n_time_features,
            d_hidden,
            n_layers,
            kernel_size,
            layer_norm,
            dropout,
        )
        self.gcgru = GCGRU(sizes, d_ff)

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Predict every entry from the steps before it.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: `n_time_features` of them for each step.
        """
        inputs = (x.where(observed, 0.0), observed, for_nodes(time_features, x.shape[2]))
        x, observed, features = (a.permute(1, 2, 0, 3)[:, None] for a in inputs)
        predictions, _ = one_step_ahead([self.gcgru], x, observed, features, both_ways(self.adj))
        return torch.stack(predictions).squeeze(1).permute(2, 0, 1, 3)

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Error on all labels.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: as in `forward`.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        return masked_mae(self(x, observed, time_features), target, visible)


def one_step_ahead(
    directions: Sequence[GCGRU],
    x: Float[Tensor, "t k n b 1"],
    observed: Bool[Tensor, "t k n b 1"],
    features: Float[Tensor, "t k n b f"],
    supports: Float[Tensor, "2 n n"],
) -> tuple[list[Float[Tensor, "k n b 1"]], list[Float[Tensor, "k n b d"]]]:
    """Walk through time; every step is predicted, filled with the prediction, then read.

    Args:
        directions: the parameters of each.
        x: readings in each direction's order, finite everywhere.
        observed: True where `x` counts.
        features: exogenous features.
        supports: normalised adjacency, along and against the edges.

    Returns:
        Predictions of the steps, and the states of the top layer before each of them.
    """
    cells, readout = GraphGRU(directions, supports), _readout(directions)
    layers = cells.start(x.shape[3])
    predictions, states = [], []
    for x_t, seen, known in zip(x, observed, torch.cat([observed, features], -1), strict=True):
        prediction = readout(layers[-1])
        predictions.append(prediction)
        states.append(layers[-1])
        layers = cells.step(torch.cat([x_t.where(seen, prediction), known], -1), layers)
    return predictions, states


def _readout(directions: Sequence[GCGRU]) -> Callable[[Tensor], Tensor]:
    """Map from the top state to the next step, for all directions."""
    if isinstance(directions[0].pred_readout, nn.Conv1d):
        return affine(directions, "pred_readout")
    enter, leave = (affine(directions, f"pred_readout.{layer}") for layer in (0, 2))
    slope = stacked(directions, "pred_readout.1.weight")
    return lambda state: leave(prelu(enter(state), slope))
