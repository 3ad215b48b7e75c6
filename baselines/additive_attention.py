"""Additive attention along time between pairs of sequences.

Of SPIN: Marisca, Cini, Alippi. Learning to Reconstruct Missing Data from Spatiotemporal Graphs
with Sparse Observations. NeurIPS 2022. arXiv:2205.13479 (section 4).

For a pair (source sequence j, target sequence i), source step s and target step t:

    hidden = Dense_L(... Dense_1(PReLU(W_s x_js + b_s + W_t x_it)))    Dense: linear, then PReLU
    message = R hidden + r
    score = w . message (+ bias)
    out_it = sum_s weight_ts message      (+ W_skip x_it, then LayerNorm, where asked)

with weights from the scores: `softmax` e / (sum e + 5e-8), `l1` sigmoid / (sum sigmoid + 1e-5),
`none` sigmoid. A source step that is not usable has weight 0; a target without any gets zeros.

What makes this affordable, with the same mathematics:

* `R` and `w` are linear, so they leave the pair dimension: hidden values are pooled with the
  weights and `R` is applied once per target; the score is `(w R) . hidden + constant`.
* Unusable source steps are dropped before anything is computed per pair: steps are sorted usable
  ones first, pairs by their number of usable steps, and pairs of similar length share a chunk.
* Nothing per pair is kept: the backward pass computes each chunk again, with a hand-written
  derivative (second derivatives are not available). On a CPU, networks of one Dense layer take the
  compiled loops of `baselines.pair_kernels`; all else takes torch, in chunks of bounded size.

Pairs are computed in the parameters' precision, also under autocast.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.blocks import MLP
from baselines.pair_attention import REWEIGHTS, PooledHidden
from baselines.pair_plan import PairPlan


class AdditiveAttention(nn.Module):
    """Additive attention from the steps of source sequences to the steps of target sequences.

    Args:
        d_source: width of the source sequences.
        d_target: width of the target sequences.
        d_out: width of the messages and of the output.
        d_message: hidden width of the message network.
        message_layers: Dense layers of the message network.
        reweight: how scores become weights (see the module docstring).
        root_weight: add a linear map of the target (no bias).
        norm: LayerNorm on the output.
    """

    def __init__(
        self,
        *,
        d_source: int,
        d_target: int,
        d_out: int,
        d_message: int,
        message_layers: int = 1,
        reweight: str = "softmax",
        root_weight: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if reweight not in REWEIGHTS:
            raise ValueError(f"unknown reweight {reweight!r}; choose one of {REWEIGHTS}")
        if message_layers < 1:
            raise ValueError(f"message_layers must be at least 1, got {message_layers}")
        self.reweight = reweight
        self.lin_src = nn.Linear(d_source, d_out)
        self.lin_tgt = nn.Linear(d_target, d_out, bias=False)
        message = MLP(d_out, d_message, d_out, message_layers, activation="prelu")
        self.msg_nn = nn.Sequential(nn.PReLU(init=0.2), message)
        self.msg_gate: nn.Module = (
            nn.Linear(d_out, 1, bias=False)
            if reweight == "softmax"
            else nn.Sequential(nn.Linear(d_out, 1), nn.Sigmoid())
        )
        self.lin_skip = nn.Linear(d_target, d_out, bias=False) if root_weight else None
        self.norm = nn.LayerNorm(d_out) if norm else None
        nn.init.xavier_uniform_(self.lin_src.weight)
        nn.init.zeros_(self.lin_src.bias)
        nn.init.xavier_uniform_(self.lin_tgt.weight)

    @property
    def _message(self) -> MLP:
        return cast(MLP, self.msg_nn[1])

    @property
    def readout(self) -> nn.Linear:
        """Linear map from pooled hidden values to messages."""
        return cast(nn.Linear, self._message.readout)

    def forward(
        self, source: Float[Tensor, "r s d1"], target: Float[Tensor, "q t d2"], plan: PairPlan
    ) -> Float[Tensor, "o t d"]:
        """Attend along time, pair by pair; `plan` says which rows, and how they are summed."""
        out = self.read(*self.pool(source, target, plan))
        if self.lin_skip is not None:
            root = self.lin_skip(target)
            out = out + (root if plan.root_rows is None else root[plan.root_rows])
        if self.norm is not None:
            out = self.norm(out)
        return out

    def pool(
        self, source: Float[Tensor, "r s d1"], target: Float[Tensor, "q t d2"], plan: PairPlan
    ) -> tuple[Float[Tensor, "o t h"], Float[Tensor, "o t"]]:
        """Weighted sums of hidden values, and sums of weights: all that messages depend on."""
        dtype = self.readout.weight.dtype
        sources: Tensor = self.lin_src(source).to(dtype)
        if plan.order is not None:
            sources = sources.gather(1, plan.order[..., None].expand_as(sources))
        targets: Tensor = self.lin_tgt(target).to(dtype)
        with torch.autocast(sources.device.type, enabled=False):
            return PooledHidden.apply(  # type: ignore[no-untyped-call]
                plan, self.reweight, sources, targets, *self._score(), *self._layers()
            )

    def read(
        self, pooled: Float[Tensor, "*o h"], total: Float[Tensor, "*o"]
    ) -> Float[Tensor, "*o d"]:
        """Sum of weighted messages from the results of `pool`, or from sums of them."""
        readout = self.readout
        with torch.autocast(pooled.device.type, enabled=False):
            return F.linear(pooled, readout.weight) + total[..., None] * readout.bias

    def _score(self) -> tuple[Float[Tensor, " h"], Float[Tensor, " 1"]]:
        """Gate and readout as one linear map of the hidden values: vector and offset."""
        gate = self.msg_gate[0] if isinstance(self.msg_gate, nn.Sequential) else self.msg_gate
        gate = cast(nn.Linear, gate)
        offset = gate.weight @ self.readout.bias
        if gate.bias is not None:
            offset = offset + gate.bias
        return (gate.weight @ self.readout.weight)[0], offset

    def _layers(self) -> list[Tensor]:
        """First PReLU slope, then weight, bias and slope of each Dense layer."""
        tensors: list[Tensor] = [cast(nn.PReLU, self.msg_nn[0]).weight]
        for dense in self._message.mlp:
            tensors += dense.parameters()
        return tensors
