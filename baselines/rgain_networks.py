"""The generator and the discriminator of rGAIN.

Baseline of Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series
Imputation by Graph Neural Networks". ICLR 2022. arXiv:2108.00298.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baselines.directions import in_time_order, paired_linear, paired_parameters


class Generated(NamedTuple):
    """The generator's estimate of every entry, and those of its two directions."""

    merged: Float[Tensor, "b t n"]
    forward: Float[Tensor, "b t n"]
    backward: Float[Tensor, "b t n"]


class Generator(nn.Module):
    """Predicts each step in both directions, and merges the two."""

    def __init__(self, n_nodes: int, d_hidden: int, d_noise: int, dropout: float) -> None:
        super().__init__()
        self.birnn = BiRNN(n_nodes, d_hidden, d_noise, dropout)

    def forward(
        self,
        x: Float[Tensor, "b t n"],
        observed: Bool[Tensor, "b t n"],
        noise: Float[Tensor, "b t z"],
    ) -> Generated:
        """Estimate every entry; `x` may hold anything where not observed."""
        generated: Generated = self.birnn(x.where(observed, 0.0), observed, noise)
        return generated


class BiRNN(nn.Module):
    """Two recurrent networks, computed as a batch of two, and the readout of both states."""

    def __init__(self, n_nodes: int, d_hidden: int, d_noise: int, dropout: float) -> None:
        super().__init__()
        self.fwd_rnn = RNN(n_nodes, d_hidden, d_noise)
        self.bwd_rnn = RNN(n_nodes, d_hidden, d_noise)
        self.dropout = nn.Dropout(dropout)
        self.read_out = nn.Linear(2 * d_hidden, n_nodes)

    def forward(
        self,
        x: Float[Tensor, "b t n"],
        observed: Bool[Tensor, "b t n"],
        noise: Float[Tensor, "b t z"],
    ) -> Generated:
        """Estimate every entry; `x` must be 0 where not observed."""
        mask = observed.to(x.dtype)
        x, mask, noise = (
            torch.stack([a, a.flip(1)]).transpose(1, 2) for a in (x, mask, noise)
        )  # [2 t b width]
        weights = paired_parameters(self.fwd_rnn, self.bwd_rnn)
        from_filled, from_known = weights["rnn_cell.weight_ih"].tensor_split([x.shape[-1]], -1)
        known = torch.cat([noise, mask], -1)
        known = paired_linear(known.flatten(1, 2), from_known, weights["rnn_cell.bias_ih"])
        known = known.view(*x.shape[:3], -1)

        state = x.new_zeros(2, x.shape[2], from_known.shape[1] // 3)
        states, estimates = [], []
        for x_t, gap, gates in zip(*(a.unbind(1) for a in (x, 1 - mask, known)), strict=True):
            estimate = paired_linear(state, weights["read_out.weight"], weights["read_out.bias"])
            states.append(state)
            estimates.append(estimate)
            gates = gates.baddbmm(torch.addcmul(x_t, gap, estimate), from_filled.mT)
            recurrent = paired_linear(
                state, weights["rnn_cell.weight_hh"], weights["rnn_cell.bias_hh"]
            )
            state = gru_update(gates, recurrent, state)
        forward, backward = in_time_order(estimates, axis=2)
        both = torch.cat([*in_time_order(states, axis=2)], -1)
        return Generated(self.read_out(self.dropout(both)), forward, backward)


class RNN(nn.Module):
    """Parameters of one direction; a cell reads [completed step; noise; mask]."""

    def __init__(self, n_nodes: int, d_hidden: int, d_noise: int) -> None:
        super().__init__()
        self.rnn_cell = nn.GRUCell(2 * n_nodes + d_noise, d_hidden)
        self.read_out = nn.Linear(d_hidden, n_nodes)


class Discriminator(nn.Module):
    """Guesses, from a completed series and a hint, which of its entries are readings."""

    def __init__(self, n_nodes: int, d_hidden: int, dropout: float) -> None:
        super().__init__()
        self.birnn = nn.GRU(2 * n_nodes, d_hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.read_out = nn.Linear(2 * d_hidden, n_nodes)

    def forward(
        self, completed: Float[Tensor, "b t n"], hint: Float[Tensor, "b t n"]
    ) -> Float[Tensor, "b t n"]:
        """Logits, positive for a reading."""
        states, _ = self.birnn(torch.cat([completed, hint], -1))
        logits: Tensor = self.read_out(self.dropout(states))
        return logits


def gru_update(
    gates: Float[Tensor, "2 b g"], recurrent: Float[Tensor, "2 b g"], state: Float[Tensor, "2 b h"]
) -> Float[Tensor, "2 b h"]:
    """New state from what the input and the state give to the gates, in the order r, z, n."""
    parts = [2 * state.shape[-1], state.shape[-1]]
    from_input, content = torch.split(gates, parts, -1)
    from_state, memory = torch.split(recurrent, parts, -1)
    reset, keep = (from_input + from_state).sigmoid().chunk(2, -1)
    candidate = torch.addcmul(content, reset, memory).tanh()
    return torch.addcmul(candidate, keep, state - candidate)
