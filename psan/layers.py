"""The parts of PSAN: temporal convolutions, prototype similarity, attention over sensors.

Source of the mathematics: Prototype-enhanced Spatial Attention Network for Spatio-temporal Data
Imputation, EDBT 2026. Inside the encoder the axes are `t b n d`: a sensor's window is then a
matrix per feature, and every convolution over time is one matrix product.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from psan.attention import biased_attention

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
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.position)

    def forward(self, features: Float[Tensor, "t b n f"]) -> Float[Tensor, "t b n d"]:
        """Embedding of every entry; unobserved readings come in as zeros."""
        readings = self.readings(features)
        position = self.position[:, None].expand_as(readings)
        mixed: Tensor = self.mix(self.dropout(torch.cat([readings, position], dim=-1)))
        return mixed


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
    """Two grouped maps of `[x; o]`: output `i` sees its inputs `2i` and `2i + 1` only.

    So the first half of the outputs depends on `x` alone and the second half on `o` alone. Both
    maps go through a logistic function; the published code calls the second one "tanh".
    """

    def __init__(self, d_model: int):
        super().__init__()
        bound = 2**-0.5  # two inputs a group
        self.weight = nn.Parameter(torch.empty(2, d_model, 2).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(2, d_model).uniform_(-bound, bound))

    def forward(
        self, x: Float[Tensor, "d t p"], o: Float[Tensor, "d t p"]
    ) -> Float[Tensor, "d t p"]:
        """`s ⊙ o + (1 - s) ⊙ v` with the gates `s` and `v` of `[x; o]`."""
        pairs = x.shape[0] // 2
        halves = []
        for half, source in enumerate((x, o)):
            chosen = slice(half * pairs, (half + 1) * pairs)
            weight = self.weight[:, chosen].transpose(0, 1)  # [pair gate 2]
            bias = self.bias[:, chosen].T[..., None]
            halves.append(torch.baddbmm(bias, weight, source.reshape(pairs, 2, -1)))
        gates = torch.cat(halves).sigmoid()  # [d gate tp]
        share, candidate = gates[:, 0].view_as(o), gates[:, 1].view_as(o)
        return torch.lerp(candidate, o, share)


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
    each other first, which leaves one product per branch and direction.
    """

    def __init__(self, d_model: int, window: int):
        super().__init__()
        self.future = Branch(d_model, window)
        self.past = Branch(d_model, window)
        self.join = nn.Linear(2 * d_model, d_model)

    def forward(self, x: Float[Tensor, "t b n d"]) -> Float[Tensor, "t b n d"]:
        """Mixes the steps of each sensor's window."""
        t, b, n, d = x.shape
        series = x.reshape(t, b * n, d).permute(2, 0, 1).contiguous()  # [d t p]
        branches = (self.future, self.past)
        convolved = self._convolve(series).unbind(1)
        of_global, of_local = self.join.weight.split(d, dim=1)
        out = self.join.bias.expand(t * b * n, d)
        for k, branch in enumerate(branches):
            gated = branch.gate(series, convolved[k])
            for source, join, last in (
                (gated, of_global, branch.global_out),
                (convolved[2 + k], of_local, branch.local_out),
            ):
                out = torch.addmm(
                    out + join @ last.bias, source.reshape(d, -1).T, (join @ last.weight).T
                )
        return out.view(t, b, n, d)

    def _convolve(self, series: Float[Tensor, "d t p"]) -> Float[Tensor, "d 4 t p"]:
        """Global future, global past, local future, local past."""
        d, t, p = series.shape
        taps = [self.future.global_taps, self.past.global_taps]
        taps += [self.future.local_taps, self.past.local_taps]
        matrices = [tap.matrix(t) for tap in taps]
        # on the reversed series: rows and columns change places
        matrices[1], matrices[3] = matrices[1].mT, matrices[3].mT
        bias = torch.stack([tap.bias for tap in taps], dim=1)  # [d 4]
        flat = torch.baddbmm(
            bias.repeat_interleave(t, dim=1)[..., None], torch.cat(matrices, dim=1), series
        )
        return flat.view(d, 4, t, p)


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
        y = self.norm_attention(x + F.dropout(self.attend(x, similarity), rate))
        z: Tensor = self.norm_out(y + F.dropout(self.shrink(F.relu(self.hidden(y))), rate))
        return z

    def attend(
        self, x: Float[Tensor, "t b n d"], similarity: Float[Tensor, "n n"]
    ) -> Float[Tensor, "t b n d"]:
        """Attention alone: what each sensor takes from the others at the same step."""
        t, b, n, d = x.shape
        projected = x @ torch.cat([self.query, self.key, self.value], dim=1)
        heads = projected.view(t * b, n, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.reshape(3, t * b * self.n_heads, n, -1)
        rate = self.dropout if self.training else 0.0
        mixed = biased_attention(query, key, value, similarity, rate)
        mixed = mixed.view(t * b, self.n_heads, n, -1).transpose(1, 2)
        return mixed.reshape(t, b, n, d) @ self.out
