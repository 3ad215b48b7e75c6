"""BRITS as one would write it down from the paper: one step after the other, one way at a time.

BRITS: Bidirectional Recurrent Imputation for Time Series, NeurIPS 2018, arXiv:1805.10572, in the
variant that the GRIN paper (arXiv:2108.00298) compares with: the estimate from the past reads the
state before its decay, and the weight of the combination passes through a sigmoid. Parameters
under the published names.
"""

import torch
import torch.nn.functional as F
from plain_parts import masked_mae
from torch import Tensor, nn


class MaskedLinear(nn.Module):
    """`(W ⊙ m) x + b`."""

    def __init__(self, n_in: int, n_out: int, m: Tensor | None = None):
        super().__init__()
        bound = n_out**-0.5
        self.W = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))
        self.register_buffer("m", m)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.W if self.m is None else self.W * self.m, self.b)


class RITS(nn.Module):
    """One direction of time."""

    def __init__(self, n_nodes: int, d_hidden: int):
        super().__init__()
        self.rnn_cell = nn.LSTMCell(2 * n_nodes, d_hidden)
        self.temp_decay_h = MaskedLinear(n_nodes, d_hidden)
        self.temp_decay_x = MaskedLinear(n_nodes, n_nodes, torch.eye(n_nodes))
        self.hist_reg = nn.Linear(d_hidden, n_nodes)
        self.feat_reg = MaskedLinear(n_nodes, n_nodes, 1 - torch.eye(n_nodes))
        self.weight_combine = nn.Linear(2 * n_nodes, n_nodes)

    def forward(self, x: Tensor, m: Tensor) -> tuple[Tensor, ...]:  # [b t n]
        h = c = x.new_zeros(len(x), self.rnn_cell.hidden_size)
        delta = torch.zeros_like(x[:, 0])
        steps = []
        for t in range(x.shape[1]):
            x_t, m_t = x[:, t], m[:, t]
            if t > 0:
                delta = 1 + (1 - m[:, t - 1]) * delta
            gamma_h = torch.exp(-torch.relu(self.temp_decay_h(delta)))
            gamma_x = torch.exp(-torch.relu(self.temp_decay_x(delta)))
            history = self.hist_reg(h)
            h = h * gamma_h
            network = self.feat_reg(m_t * x_t + (1 - m_t) * history)
            beta = torch.sigmoid(self.weight_combine(torch.cat([gamma_x, m_t], dim=-1)))
            combined = beta * network + (1 - beta) * history
            completed = m_t * x_t + (1 - m_t) * combined
            h, c = self.rnn_cell(torch.cat([completed, m_t], dim=-1), (h, c))
            steps.append((combined, network, history, completed))
        return tuple(torch.stack(series, dim=1) for series in zip(*steps, strict=True))


class BiRITS(nn.Module):
    """Both directions; each quantity as a list of forward and backward, in the order of time."""

    def __init__(self, n_nodes: int, d_hidden: int):
        super().__init__()
        self.rits_fwd, self.rits_bwd = RITS(n_nodes, d_hidden), RITS(n_nodes, d_hidden)

    def forward(self, x: Tensor, m: Tensor) -> list[tuple[Tensor, Tensor]]:
        ahead = self.rits_fwd(x, m)
        back = self.rits_bwd(x.flip(1), m.flip(1))
        return [(a, b.flip(1)) for a, b in zip(ahead, back, strict=True)]


class PlainBRITS(nn.Module):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        n_nodes: int,
        d_hidden: int = 128,
        restore_observed: bool = True,
        consistency_weight: float = 0.1,
    ):
        super().__init__()
        self.birits = BiRITS(n_nodes, d_hidden)
        self.restore_observed, self.consistency_weight = restore_observed, consistency_weight

    def estimates(self, x: Tensor, observed: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Combined, network, history and imputation of both directions."""
        x = torch.where(observed, x, 0.0)[..., 0]
        combined, network, history, completed = self.birits(x, observed[..., 0].to(x.dtype))
        return [combined, network, history, completed if self.restore_observed else combined]

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        *_, (ahead, back) = self.estimates(x, observed)
        return ((ahead + back) / 2)[..., None]

    def loss(
        self, x: Tensor, observed: Tensor, time_features: Tensor, target: Tensor, visible: Tensor
    ) -> Tensor:
        *estimates, (ahead, back) = self.estimates(x, observed)
        target, visible = target[..., 0], visible[..., 0]
        errors = sum(masked_mae(one, target, visible) for pair in estimates for one in pair)
        return errors + self.consistency_weight * (ahead - back).abs().mean()
