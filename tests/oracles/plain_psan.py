"""PSAN as one would write it down from the paper: the slow truth that the package is held to.

Prototype-enhanced Spatial Attention Network for Spatio-temporal Data Imputation, EDBT 2026. One
line per formula, parameters under the published names, no attention to speed: grouped
convolutions by torch's own kernels and attention weights as a whole `[b t h n n]` tensor. The
embedding's dropout is off outside training, as in the package.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalTCN(nn.Module):
    """Depthwise convolution over the present and the following steps, then a full map."""

    def __init__(self, d_model: int, taps: int):
        super().__init__()
        self.taps = taps
        self.cc = nn.Conv2d(d_model, d_model, (1, taps), groups=d_model)
        self.fc = nn.Conv2d(d_model, d_model, 1)

    def convolve(self, x: Tensor) -> Tensor:  # [b d n t]
        return self.cc(F.pad(x, (0, self.taps - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.convolve(x))


class GatedFusion(nn.Module):
    """Two gates of `[x; o]`, each output of which sees two neighbouring channels."""

    def __init__(self, d_model: int):
        super().__init__()
        self.gate1 = nn.Conv2d(2 * d_model, d_model, 1, groups=d_model)
        self.gate2 = nn.Conv2d(2 * d_model, d_model, 1, groups=d_model)

    def forward(self, x: Tensor, o: Tensor) -> Tensor:
        q = torch.cat([x, o], dim=1)
        s, v = torch.sigmoid(self.gate1(q)), torch.sigmoid(self.gate2(q))
        return s * o + (1 - s) * v


class GlobalTCN(LocalTCN):
    """The same over the whole window, with a gate before the full map."""

    def __init__(self, d_model: int, window: int):
        super().__init__(d_model, window)
        self.gated_fusion = GatedFusion(d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gated_fusion(x, self.convolve(x)))


class BiLSTCM(nn.Module):
    """Both convolutions in both directions of time."""

    def __init__(self, d_model: int, window: int):
        super().__init__()
        self.r_gtcn, self.l_gtcn = GlobalTCN(d_model, window), GlobalTCN(d_model, window)
        self.r_ltcn, self.l_ltcn = LocalTCN(d_model, 3), LocalTCN(d_model, 3)
        self.fc = nn.Linear(2 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:  # [b t n d]
        ahead = x.permute(0, 3, 2, 1)
        back = ahead.flip(-1)
        g = self.r_gtcn(ahead) + self.l_gtcn(back).flip(-1)
        local = self.r_ltcn(ahead) + self.l_ltcn(back).flip(-1)
        return self.fc(torch.cat([g, local], dim=1).permute(0, 3, 2, 1))


class MHSSA(nn.Module):
    """Attention over the sensors of a step, shifted by the similarity."""

    def __init__(self, d_model: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads, self.dropout = n_heads, nn.Dropout(dropout)
        for name in ("FC_Q", "FC_K", "FC_V", "out_proj"):
            weight = nn.init.xavier_uniform_(torch.empty(d_model, d_model))
            setattr(self, name, nn.Parameter(weight))

    def forward(self, x: Tensor, similarity: Tensor) -> Tensor:
        b, t, n, d = x.shape
        q, k, v = (
            (x @ weight).view(b, t, n, self.n_heads, -1).transpose(2, 3)
            for weight in (self.FC_Q, self.FC_K, self.FC_V)
        )
        scores = q @ k.transpose(-1, -2) / (d // self.n_heads) ** 0.5 + similarity
        mixed = self.dropout(scores.softmax(dim=-1)) @ v
        return mixed.transpose(2, 3).reshape(b, t, n, d) @ self.out_proj


class FFN(nn.Module):
    """Two residual parts, each normalised at its end."""

    def __init__(self, d_model: int, dropout: float):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, d_model)
        )
        self.ln1, self.ln2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, a: Tensor, r: Tensor) -> Tensor:
        y = self.ln1(r + self.dropout(a))
        return self.ln2(y + self.dropout(self.ffn(y)))


class Prototypes(nn.Module):
    """Cosine similarity of learned vectors that are put back on the sphere at each pass."""

    def __init__(self, n_nodes: int, n_prototypes: int):
        super().__init__()
        self.proto = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_nodes, n_prototypes)))

    def forward(self) -> Tensor:
        with torch.no_grad():
            self.proto.copy_(F.normalize(self.proto, dim=-1))
        similarity = F.cosine_similarity(self.proto[:, None], self.proto[None], dim=-1)
        return F.leaky_relu(similarity, 0.01)


class DataEmbedding(nn.Module):
    """A reading, the time of day and a learned vector per step and sensor."""

    def __init__(self, n_nodes: int, window: int, d_model: int, n_features: int, dropout: float):
        super().__init__()
        self.input_embedding = nn.Linear(n_features, d_model)
        self.SE = nn.Parameter(nn.init.xavier_uniform_(torch.empty(window, n_nodes, d_model)))
        self.input_proj = nn.Linear(2 * d_model, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x0: Tensor) -> Tensor:
        e = self.input_embedding(x0)
        return self.input_proj(self.dropout(torch.cat([e, self.SE.expand_as(e)], dim=-1)))


class Encoder(nn.Module):
    """Layers of convolution over time and attention over sensors."""

    def __init__(
        self, n_nodes: int, window: int, k: int, d_model: int, heads: int, layers: int, p: float
    ):
        super().__init__()
        self.pn = Prototypes(n_nodes, k)
        self.T = nn.ModuleList(BiLSTCM(d_model, window) for _ in range(layers))
        self.S = nn.ModuleList(
            nn.ModuleDict({"mhssa": MHSSA(d_model, heads, p)}) for _ in range(layers)
        )
        self.resi = nn.ModuleList(FFN(d_model, p) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        similarity = self.pn()
        for temporal, spatial, residual in zip(self.T, self.S, self.resi, strict=True):
            x = x + temporal(x)
            x = residual(spatial["mhssa"](x, similarity), x)
        return x


class PlainPSAN(nn.Module):
    """The whole network, with the package's arguments and the published names."""

    def __init__(
        self,
        n_nodes: int,
        window: int = 24,
        n_prototypes: int = 10,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 3,
        n_time_features: int = 2,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.DataEmb = DataEmbedding(n_nodes, window, d_model, 1 + n_time_features, dropout)
        self.Encoder = Encoder(n_nodes, window, n_prototypes, d_model, n_heads, n_layers, dropout)
        self.imputer = nn.Sequential(nn.Linear(d_model, d_model), nn.ReLU(), nn.Linear(d_model, 1))

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        b, t, n, _ = x.shape
        u = time_features[:, :, None].expand(b, t, n, -1)
        x0 = torch.cat([torch.where(observed, x, 0.0), u], dim=-1)
        return self.imputer(self.Encoder(self.DataEmb(x0)))
