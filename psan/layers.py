"""The parts of PSAN: temporal convolutions, prototype similarity, attention over sensors.

Source of the mathematics: Prototype-enhanced Spatial Attention Network for Spatio-temporal Data
Imputation, EDBT 2026. Inside the encoder the axes are `t b n d`: a sensor's window is then a
matrix per feature, and every convolution over time is one matrix product.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from psan.attention import biased_attention
from psan.dropout import dropout, runs_on_kernels
from psan.gate import gated
from psan.spatial import related_sensors
from psan.temporal import mixed_steps

LOCAL_TAPS = 3
"""Steps that the local convolution sees: the present one and the next two."""


class Embedding(nn.Module):
    """Joins a reading, the time of day and a learned vector per step and sensor.

    The published code leaves this dropout on outside training; here it is off there.
    """

    def __init__(self, n_nodes: int, window: int, d_model: int, n_features: int, dropout: float):
        super().__init__()
        self.readings = nn.Linear(n_features, d_model)
        self.position = nn.Parameter(torch.empty(window, n_nodes, d_model))
        self.mix = nn.Linear(2 * d_model, d_model)
        self.dropout = dropout
        nn.init.xavier_uniform_(self.position)

    def forward(self, features: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n d"]:
        """Embedding of every entry; unobserved readings come in as zeros."""
        rate = self.dropout if self.training else 0.0
        if rate == 0:
            return self._folded(features)
        readings = self.readings(features)
        position = self.position[:, None].expand_as(readings)
        mixed: Tensor = self.mix(dropout(torch.cat([readings, position], dim=-1), rate))
        return mixed

    def _folded(self, features: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n d"]:
        """The same without dropout: both maps of the readings as one, the position's once."""
        of_readings, of_position = self.mix.weight.chunk(2, dim=1)
        bias = of_readings @ self.readings.bias + self.mix.bias
        constant = F.linear(self.position, of_position, bias)
        weight = of_readings @ self.readings.weight
        return F.linear(features.contiguous(), weight).add_(constant[:, None])


class Prototypes(nn.Module):
    """Similarity of sensors: cosine of learned vectors, negatives nearly removed."""

    def __init__(self, n_nodes: int, n_prototypes: int):
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(n_nodes, n_prototypes))
        nn.init.xavier_uniform_(self.vectors)

    def forward(self) -> Float[Tensor, "n n"]:
        """Similarity in [-0.01, 1], 1 on the diagonal.

        As published, the vectors are put back on the unit sphere first, without gradient, so
        that the optimiser's steps are angles. Those that are on it stay as they are, bit for bit:
        a second call gives the same.
        """
        stored = self.vectors.data
        off = (stored.norm(dim=-1, keepdim=True) - 1).abs() > 1e-6
        stored.copy_(torch.where(off, F.normalize(stored, dim=-1), stored))
        unit = F.normalize(self.vectors, dim=-1, eps=1e-8)
        return F.leaky_relu(unit @ unit.T, 0.01)


class DepthwiseTaps(nn.Module):
    """Weights of a convolution over time with a filter of its own for each feature."""

    def __init__(self, d_model: int, taps: int):
        super().__init__()
        bound = taps**-0.5  # torch's default for a convolution: one input channel, `taps` wide
        self.weight = nn.Parameter(torch.empty(d_model, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(d_model).uniform_(-bound, bound))

    def matrix(self, window: int) -> Float[Tensor, "d t t"]:
        """The convolution as a matrix per feature: row `i` holds tap `j - i` in column `j`.

        Every step sees itself and the following ones; beyond the window stand zeros.
        """
        taps = self.weight.shape[1]
        steps = torch.arange(window, device=self.weight.device)
        lag = steps - steps[:, None]
        lag = torch.where((lag >= 0) & (lag < taps), lag, taps)
        return F.pad(self.weight, (0, 1))[:, lag]


class Gate(nn.Module):
    """Weights of the gate of one direction, see `psan.gate`.

    Both maps go through a logistic function; the published code calls the second one "tanh".
    """

    def __init__(self, d_model: int):
        super().__init__()
        bound = 2**-0.5  # two inputs a group
        self.weight = nn.Parameter(torch.empty(2, d_model, 2).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, d_model).uniform_(-bound, bound))


class Branch(nn.Module):
    """One direction of time: a gated convolution over the window and a local one."""

    def __init__(self, d_model: int, window: int):
        super().__init__()
        self.global_taps = DepthwiseTaps(d_model, window)
        self.gate = Gate(d_model)
        self.global_out = nn.Linear(d_model, d_model)
        self.local_taps = DepthwiseTaps(d_model, LOCAL_TAPS)
        self.local_out = nn.Linear(d_model, d_model)


class BidirectionalTemporalConvolution(nn.Module):
    """Local and global convolution over time, forward and backward, joined by a linear map.

    All that follows the gate and the local convolution is linear; the maps are multiplied with
    each other first, which leaves one product for the global and one for the local part.
    """

    def __init__(self, d_model: int, window: int):
        super().__init__()
        self.future = Branch(d_model, window)
        self.past = Branch(d_model, window)
        self.join = nn.Linear(2 * d_model, d_model)

    def forward(self, x: Float[Tensor, "t b n d"]) -> Float[Tensor, "t b n d"]:
        """Adds to `x` what mixing the steps of each sensor's window gives."""
        t, b, n, d = x.shape
        of_global, of_local = self.join.weight.split(d, dim=1)
        constant = self.join.bias
        for branch in (self.future, self.past):
            local_bias = branch.local_out(branch.local_taps.bias)
            constant = constant + of_global @ branch.global_out.bias + of_local @ local_bias
        branches = (self.future, self.past)
        weight = torch.stack(
            [of_global @ branch.global_out.weight for branch in branches]
            + [of_local @ branch.local_out.weight for branch in branches]
        )
        if runs_on_kernels(x, weight):
            mixed = mixed_steps(
                x.flatten(1, 2),
                torch.stack([branch.global_taps.weight for branch in branches]),
                torch.stack([branch.global_taps.bias for branch in branches]),
                torch.stack([branch.gate.weight for branch in branches]),
                torch.stack([branch.gate.bias for branch in branches]),
                torch.stack([branch.local_taps.weight for branch in branches]),
                weight,
                constant,
            )
            return mixed.view(t, b, n, d)
        series = x.reshape(-1, d).t().contiguous().view(d, t, b * n)
        sources = torch.cat([self.far(series), self.near(series)], dim=1)  # [d 4 m]
        change = torch.einsum("sod,dsm->mo", weight, sources) + constant
        return x + change.view(t, b, n, d)

    def far(self, series: Float[Tensor, "d t p"]) -> Float[Tensor, "d 2 m"]:
        """Gated convolutions over the whole window, ahead and back; `m` is `t × p`."""
        d, t, _ = series.shape
        branches = (self.future, self.past)
        taps = [branch.global_taps for branch in branches]
        bias = torch.stack([tap.bias for tap in taps], dim=1).repeat_interleave(t, dim=1)
        convolved = torch.baddbmm(bias[..., None], _both_ways(taps, t), series)
        return gated(
            series.view(d, -1),
            convolved.view(d, 2, -1),
            torch.stack([branch.gate.weight for branch in branches]),
            torch.stack([branch.gate.bias for branch in branches]),
        )

    def near(self, series: Float[Tensor, "d t p"]) -> Float[Tensor, "d 2 m"]:
        """Convolutions over `LOCAL_TAPS` steps, ahead and back, without their bias."""
        d, t, _ = series.shape
        taps = [self.future.local_taps, self.past.local_taps]
        return torch.bmm(_both_ways(taps, t), series).view(d, 2, -1)


def _both_ways(taps: Sequence[DepthwiseTaps], window: int) -> Float[Tensor, "d s t"]:
    """Matrices of a convolution ahead and of one on the reversed series, one above the other."""
    ahead, back = (tap.matrix(window) for tap in taps)
    return torch.cat([ahead, back.mT], dim=1)  # reversed: rows and columns change places


class SpatialAttention(nn.Module):
    """Attention over the sensors of a step, shifted by their prototype similarity, and its FFN."""

    def __init__(self, d_model: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.query, self.key, self.value, self.out = (
            nn.Parameter(nn.init.xavier_uniform_(torch.empty(d_model, d_model))) for _ in range(4)
        )
        self.norm_attention = nn.LayerNorm(d_model)
        self.hidden = nn.Linear(d_model, d_model)
        self.shrink = nn.Linear(d_model, d_model)
        self.norm_out = nn.LayerNorm(d_model)

    def forward(
        self, x: Float[Tensor, "t b n d"], similarity: Float[Tensor, "n n"]
    ) -> Float[Tensor, "t b n d"]:
        """Mixes the sensors of each step; two residual parts, each normalised at its end."""
        rate = self.dropout if self.training else 0.0
        t, b, n, d = x.shape
        if runs_on_kernels(x, similarity, self.query):
            qkv = torch.cat([self.query, self.key, self.value], dim=1)
            maps = torch.stack([self.out, self.hidden.weight.T, self.shrink.weight.T])
            norms = self.norm_attention, self.norm_out
            of_norms = (part for norm in norms for part in (norm.weight, norm.bias))
            vectors = torch.stack((self.hidden.bias, self.shrink.bias, *of_norms))
            related = related_sensors(
                x.flatten(0, 1), similarity, qkv, maps, vectors, self.n_heads, rate
            )
            return related.view(t, b, n, d)
        y = self.norm_attention(x + dropout(self.attend(x, similarity), rate))
        z: Tensor = self.norm_out(y + dropout(self.shrink(F.relu(self.hidden(y))), rate))
        return z

    def attend(
        self, x: Float[Tensor, "t b n d"], similarity: Float[Tensor, "n n"]
    ) -> Float[Tensor, "t b n d"]:
        """Attention alone: what each sensor takes from the others at the same step."""
        t, b, n, d = x.shape
        projected = x @ torch.cat([self.query, self.key, self.value], dim=1)
        rate = self.dropout if self.training else 0.0
        heads = projected.view(t * b, n, 3, self.n_heads, -1)
        return biased_attention(heads, similarity, rate).reshape(t, b, n, d) @ self.out
