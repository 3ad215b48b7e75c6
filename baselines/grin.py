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

from baselines.graph_gru import (
    GCGRUStack,
    GraphGRU,
    SpatialConv,
    affine,
    both_ways,
    propagate,
)
from baselines.losses import masked_mae

N_ATTENTION_HEADS = 2  # of the published global attention


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
        self.register_buffer("adj", adjacency.clone())
        self.prediction_weight = prediction_weight
        recurrent = {
            "n_nodes": len(adjacency),
            "d_hidden": d_hidden,
            "n_layers": n_layers,
            "kernel_size": kernel_size,
            "layer_norm": layer_norm,
            "dropout": dropout,
        }
        self.bigrill = BiGRIL(
            GRIL(
            len(adjacency),
            d_ff,
            d_emb,
            ff_dropout,
            d_hidden=d_hidden,
        )
