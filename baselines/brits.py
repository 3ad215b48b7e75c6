"""BRITS: two recurrent networks, one per time direction, that fill the gaps as they go.

Wei Cao, Dong Wang, Jian Li, Hao Zhou, Lei Li, Yitan Li. "BRITS: Bidirectional Recurrent Imputation
for Time Series". NeurIPS 2018. arXiv:1805.10572.

Deviations from that paper, all shared with the variant that the GRIN paper (arXiv:2108.00298) and
its successors compare with:

* the estimate from the past reads the hidden state before its decay, not after it;
* the weight that joins the two estimates passes through a sigmoid;
* errors count on every visible entry, of which a few are hidden from the network.

Two forms of that variant are in use, and `restore_observed` picks one. True (GRIN paper): a
direction's imputation keeps the observed readings, and the consistency term compares imputations.
False (SPIN paper, arXiv:2205.13479): the bare estimates take both places.

Parameters bear the names of the GRIN paper's code (`birits.rits_fwd.…`); weights of the SPIN
paper's code (`rits_fwd.…`) load into `model.birits`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from baselines.directions import (
    StepwiseLinear,
    in_time_order,
    paired_linear,
    paired_parameters,
)
from baselines.losses import masked_mae


class Estimates(NamedTuple):
    """What the two directions say; axis 0 is forward, backward; time runs forward in both."""

    history: Float[Tensor, "2 b t n"]  # from the sensor's own past or future
    network: Float[Tensor, "2 b t n"]  # from the other sensors at the same step
    combined: Float[Tensor, "2 b t n"]  # between the two
    imputation: Float[Tensor, "2 b t n"]


class BRITS(nn.Module):
    """Bidirectional recurrent imputation; every sensor is a feature of one recurrent network."""

    def __init__(
        self,
        n_nodes: int,
        d_hidden: int = 128,
        restore_observed: bool = True,
        consistency_weight: float = 0.1,
    ) -> None:
        """Build the two directions.

        Args:
            n_nodes: sensors of the network.
            d_hidden: width of the LSTM state.
            restore_observed: form of the model, see the module's description.
            consistency_weight: weight of the term that pulls the two directions together.
        """
        super().__init__()
        self.birits = BiRITS(n_nodes, d_hidden)
        self.restore_observed = restore_observed
        self.consistency_weight = consistency_weight

    def estimates(
        self, x: Float[Tensor, "b t n 1"], observed: Bool[Tensor, "b t n 1"]
    ) -> Estimates:
        """All estimates of both directions; arguments as in `forward`."""
        series = x.where(observed, 0.0).squeeze(-1)
        found: Estimates = self.birits(
            series, observed.squeeze(-1), restore_observed=self.restore_observed
        )
        return found

    def forward(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
    ) -> Float[Tensor, "b t n 1"]:
        """Impute every entry: the mean of both directions.

        Args:
            x: scaled readings; anything, NaN too, where not observed.
            observed: True where `x` is a reading the model may use.
            time_features: not used.
        """
        return self.estimates(x, observed).imputation.mean(0)[..., None]

    def loss(
        self,
        x: Float[Tensor, "b t n 1"],
        observed: Bool[Tensor, "b t n 1"],
        time_features: Float[Tensor, "b t f"],
        target: Float[Tensor, "b t n 1"],
        visible: Bool[Tensor, "b t n 1"],
    ) -> Float[Tensor, ""]:
        """Errors of the six estimates on `visible`, and the disagreement of the directions.

        Args:
            x: scaled readings; anything where not observed.
            observed: True where the model may read `x`.
            time_features: not used.
            target: scaled labels; anything where not visible.
            visible: True where `target` may be used.
        """
        found = self.estimates(x, observed)
        target, visible = (a.squeeze(-1).expand_as(found.history) for a in (target, visible))
        errors = [  # of two directions each, of equal counts
            2.0 * masked_mae(pair, target, visible)
            for pair in (found.combined, found.network, found.history)
        ]
        disagreement = (found.imputation[0] - found.imputation[1]).abs().mean()
        return torch.stack(errors).sum() + self.consistency_weight * disagreement


class BiRITS(nn.Module):
    """Both directions, computed as a batch of two."""

    def __init__(self, n_nodes: int, d_hidden: int) -> None:
        super().__init__()
        self.d_hidden = d_hidden
        self.rits_fwd = RITS(n_nodes, d_hidden)
        self.rits_bwd = RITS(n_nodes, d_hidden)

    def forward(
        self, x: Float[Tensor, "b t n"], observed: Bool[Tensor, "b t n"], *, restore_observed: bool
    ) -> Estimates:
        """Estimate every entry; `x` must be 0 where `observed` is not True."""
        x, observed = (torch.stack([a, a.flip(1)]).transpose(1, 2) for a in (x, observed))
        weights = paired_parameters(self.rits_fwd, self.rits_bwd)
        decays, shares, gates = _known_ahead(weights, observed, x.dtype)  # each [2 t b width]
        n_nodes = x.shape[-1]
        from_past = StepwiseLinear(
            weights["hist_reg.weight"],
            weights["hist_reg.bias"][:, None, None].expand(*x.shape),
        )
        from_others = StepwiseLinear(
            weights["feat_reg.W"] * self.rits_fwd.feat_reg.m,
            weights["feat_reg.b"][:, None, None].expand(*x.shape),
        )
        into_gates = StepwiseLinear(
            torch.cat(
                [weights["rnn_cell.weight_ih"][..., :n_nodes], weights["rnn_cell.weight_hh"]], -1
            ),
            gates,
        )

        hidden = cell = x.new_zeros(2, x.shape[2], self.d_hidden)
        steps = []
        for x_t, gap, decay, share in zip(
            *(series.unbind(1) for series in (x, (~observed).to(x.dtype), decays, shares)),
            strict=True,
        ):
            history = from_past(hidden)
            network = from_others(torch.addcmul(x_t, gap, history))
            combined = torch.addcmul(history, share, network - history)
            filled = torch.addcmul(x_t, gap, combined)
            hidden, cell = lstm_update(into_gates(torch.cat([filled, hidden * decay], -1)), cell)
            steps.append((history, network, combined, filled if restore_observed else combined))
        return Estimates(*(in_time_order(series, axis=2) for series in zip(*steps, strict=True)))


class RITS(nn.Module):
    """Parameters of one direction."""

    def __init__(self, n_nodes: int, d_hidden: int) -> None:
        super().__init__()
        self.rnn_cell = nn.LSTMCell(2 * n_nodes, d_hidden)
        self.temp_decay_h = UniformLinear(n_nodes, d_hidden)
        self.temp_decay_x = UniformLinear(n_nodes, n_nodes, mask=torch.eye(n_nodes))
        self.hist_reg = nn.Linear(d_hidden, n_nodes)
        self.feat_reg = UniformLinear(n_nodes, n_nodes, mask=1.0 - torch.eye(n_nodes))
        self.weight_combine = nn.Linear(2 * n_nodes, n_nodes)


class UniformLinear(nn.Module):
    """Parameters `W`, `b` of a linear map, uniform within ±1/sqrt(outputs); `m` masks `W`."""

    m: Tensor

    def __init__(self, n_in: int, n_out: int, mask: Float[Tensor, "o i"] | None = None) -> None:
        super().__init__()
        bound = n_out**-0.5
        self.W = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))
        if mask is not None:
            self.register_buffer("m", mask)


def time_gaps(observed: Bool[Tensor, "2 t b n"]) -> Int[Tensor, "2 t b n"]:
    """Steps since the last observed entry before each step; since the start if there is none."""
    *missing, _ = (~observed).long().unbind(1)
    gaps = [torch.zeros_like(observed[:, 0], dtype=torch.long)]
    for gap in missing:
        gaps.append(gap * gaps[-1] + 1)
    return torch.stack(gaps, 1)


def lstm_update(
    gates: Float[Tensor, "2 b g"], cell: Float[Tensor, "2 b h"]
) -> tuple[Float[Tensor, "2 b h"], Float[Tensor, "2 b h"]]:
    """New hidden and cell state from the summed gate inputs, in the order i, f, g, o."""
    enter, forget, content, leave = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(content)
    return torch.sigmoid(leave) * torch.tanh(cell), cell


def _known_ahead(
    weights: dict[str, Tensor], observed: Bool[Tensor, "2 t b n"], dtype: torch.dtype
) -> tuple[Float[Tensor, "2 t b h"], Float[Tensor, "2 t b n"], Float[Tensor, "2 t b g"]]:
    """What depends on the mask alone, for all steps at once.

    Returns the decay of the hidden state, the share of `network` in the combined estimate, and
    the part of the LSTM gates that is already known.
    """
    n_nodes = observed.shape[-1]
    seen, gaps = observed.to(dtype).flatten(1, 2), time_gaps(observed).to(dtype).flatten(1, 2)
    decay = torch.exp(
        -torch.relu(paired_linear(gaps, weights["temp_decay_h.W"], weights["temp_decay_h.b"]))
    )
    slope = weights["temp_decay_x.W"].diagonal(dim1=1, dim2=2)[:, None]
    decay_x = torch.exp(-torch.relu(slope * gaps + weights["temp_decay_x.b"][:, None]))
    share = torch.sigmoid(
        paired_linear(
            torch.cat([decay_x, seen], -1),
            weights["weight_combine.weight"],
            weights["weight_combine.bias"],
        )
    )
    gates = paired_linear(
        seen,
        weights["rnn_cell.weight_ih"][..., n_nodes:],
        weights["rnn_cell.bias_ih"] + weights["rnn_cell.bias_hh"],
    )
    by_step = (*observed.shape[:3], -1)
    return decay.view(by_step), share.view(by_step), gates.view(by_step)
