"""The spatial decoder of GRIN: a second guess at every gap, from its neighbours at the same step.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298. Section 4.2, spatial decoder.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baselines.graph_gru import Affine, SpatialConv, StackSizes, affine, prelu, propagate, stacked

N_HEADS = 2  # of the published global attention


class SpatialDecoder(nn.Module):
    """Parameters of the decoder of one direction."""

    def __init__(self, sizes: StackSizes, order: int, global_attention: bool) -> None:
        super().__init__()
        width = sizes.d_hidden
        self.order = order
        self.lin_in = nn.Conv1d(sizes.n_in + width, width, kernel_size=1)
        self.graph_conv = SpatialConv(width, width, 2 * order)
        self.spatial_att = GlobalAttention(width) if global_attention else None
        self.lin_out = nn.Conv1d((3 if global_attention else 2) * width, width, kernel_size=1)
        self.read_out = nn.Conv1d(2 * width, 1, kernel_size=1)
        self.activation = nn.PReLU()


class GlobalAttention(nn.Module):
    """Parameters of the attention among all nodes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin_in = nn.Linear(width, width)
        self.self_attn = nn.MultiheadAttention(width, N_HEADS, batch_first=True)


class Decoder:
    """The spatial decoders of all directions, ready to be called at every step."""

    def __init__(self, parts: Sequence[SpatialDecoder], supports: Float[Tensor, "2 n n"]) -> None:
        """Gather the weights, once per pass.

        Args:
            parts: one per direction.
            supports: normalised adjacency, along and against the edges.
        """
        self.parts = parts
        self.matrices = decoder_matrices(supports, parts[0].order)
        self.lin_in = affine(self.parts, "lin_in")
        self.graph_conv = affine(self.parts, "graph_conv.mlp")
        self.lin_out = affine(self.parts, "lin_out")
        self.read_out = affine(self.parts, "read_out")
        self.slope = stacked(self.parts, "activation.weight")

    def __call__(
        self,
        x: Float[Tensor, "k n b 1"],
        known: Float[Tensor, "k n b c"],
        h: Float[Tensor, "k n b d"],
    ) -> tuple[Float[Tensor, "k n b 1"], Float[Tensor, "k n b r"]]:
        """Predictions of a step from its neighbourhood, and the representation they are read from.

        Args:
            x: readings of the step, gaps filled by the first stage.
            known: mask and exogenous features.
            h: state before the step.
        """
        mixed = self.lin_in(torch.cat([x, known, h], -1))
        parts = [self.graph_conv(propagate(self.matrices, mixed, include_self=False)), h]
        if self.parts[0].spatial_att is not None:
            parts.insert(1, self._attend(mixed))
        out = prelu(self.lin_out(torch.cat(parts, -1)), self.slope)
        representation = torch.cat([out, h], -1)
        return self.read_out(representation), representation

    def _attend(self, x: Float[Tensor, "k n b d"]) -> Float[Tensor, "k n b d"]:
        """Every node attends to all nodes but itself."""
        name = "spatial_att.self_attn"
        weight = stacked(self.parts, f"{name}.in_proj_weight").mT
        bias = stacked(self.parts, f"{name}.in_proj_bias")[:, None]
        x = Affine(weight, bias)(affine(self.parts, "spatial_att.lin_in")(x))
        k, n, b, _ = x.shape
        query, key, value = x.view(k, n, b, 3, N_HEADS, -1).permute(3, 0, 2, 4, 1, 5)
        others = ~torch.eye(n, dtype=torch.bool, device=x.device)
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=others)
        found = found.permute(0, 3, 1, 2, 4).flatten(3)
        leave = affine(self.parts, f"{name}.out_proj")
        return leave(found)


def decoder_matrices(supports: Float[Tensor, "2 n n"], order: int) -> Float[Tensor, "p n n"]:
    """Propagation matrices of a decoder of some order.

    After the two supports come, for each of them, order - 1 products M ← M Aᵀ with the diagonal
    set to zero; the transpose, and the zeros that enter the next product, are as published.
    """
    others = 1.0 - torch.eye(supports.shape[-1], dtype=supports.dtype, device=supports.device)
    products = [[support] for support in supports]
    for _ in range(order - 1):
        for chain in products:
            chain.append(chain[-1] @ chain[0].T * others)
    return torch.stack([*supports, *(m for chain in products for m in chain[1:])])
