"""The gate that joins the global convolution with what went into it."""

import torch
from jaxtyping import Float
from torch import Tensor


def gated(
    x: Float[Tensor, "d m"],
    o: Float[Tensor, "d 2 m"],
    weight: Float[Tensor, "2 2 d 2"],
    bias: Float[Tensor, "2 2 d"],
) -> Float[Tensor, "d 2 m"]:
    """`s ⊙ o + (1 - s) ⊙ v` for both directions of time, with gates `s` and `v` of `[x; o]`.

    Gates are logistic functions of grouped maps: output `i` sees inputs `2i` and `2i + 1` of
    `[x; o]` only, so the first half depends on `x` alone and the second half on `o` alone.

    Args:
        x: the series, features first.
        o: its convolutions, one for each direction.
        weight: `[direction gate output input]`.
        bias: `[direction gate output]`.

    Raises:
        ValueError: shapes that do not belong together.
    """
    d, m = x.shape
    if d % 2 or o.shape != (d, 2, m) or weight.shape != (2, 2, d, 2) or bias.shape != (2, 2, d):
        raise ValueError(
            f"x {tuple(x.shape)} needs an even first size, and o {(d, 2, m)}, weight "
            f"{(2, 2, d, 2)}, bias {(2, 2, d)}; got {tuple(o.shape)}, {tuple(weight.shape)}, "
            f"{tuple(bias.shape)}"
        )
    both = torch.cat([x[:, None].expand_as(o), o])  # [2d direction m]
    pairs = both.view(len(x), 2, *o.shape[1:])  # [d 2 direction m]
    gates = torch.einsum("kgdi,dikm->gdkm", weight, pairs) + bias.permute(1, 2, 0)[..., None]
    share, candidate = gates.sigmoid().unbind(0)
    return torch.lerp(candidate, o.to(share.dtype), share)  # autocast makes them differ
