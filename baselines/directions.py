"""Two directions of time as one batch: laying them out, turning them back, merging them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn


def for_nodes(features: Float[Tensor, "b t f"], n_nodes: int) -> Float[Tensor, "b t {n_nodes} f"]:
    """The features of a step, for every node."""
    return features[:, :, None].expand(-1, -1, n_nodes, -1)


def two_directions(a: Shaped[Tensor, "b t n c"]) -> Shaped[Tensor, "t 2 n b c"]:
    """Lay time first and nodes before the batch, and add the reversed sequence."""
    a = a.permute(1, 2, 0, 3)
    return torch.stack([a, a.flip(0)], 1)


def in_time_order(
    steps: Sequence[Float[Tensor, "2 *rest"]], axis: int = 1
) -> Float[Tensor, "2 ..."]:
    """Stack the steps of both directions along `axis` and turn the backward one round."""
    forward, backward = torch.stack(list(steps), axis).unbind(0)
    return torch.stack([forward, backward.flip(axis - 1)])


def paired_parameters(forward: nn.Module, backward: nn.Module) -> dict[str, Tensor]:
    """Every parameter of a direction by its name, stacked with its like of the other."""
    pairs = zip(forward.named_parameters(), backward.parameters(), strict=True)
    return {name: torch.stack([ahead, behind]) for (name, ahead), behind in pairs}


def paired_linear(
    x: Float[Tensor, "2 r i"], weight: Float[Tensor, "2 o i"], bias: Float[Tensor, "2 o"]
) -> Float[Tensor, "2 r o"]:
    """A linear map per direction."""
    return torch.baddbmm(bias[:, None], x, weight.mT)


def merge(
    perceptron: nn.Sequential,
    representation: Float[Tensor, "2 t n b r"],
    observed: Bool[Tensor, "t n b 1"],
    emb: Float[Tensor, "e n"],
) -> Float[Tensor, "t n b 1"]:
    """Read a prediction from what both directions know of an entry, its mask and its node.

    Args:
        perceptron: first and last layer are convolutions of kernel size 1; the first takes
            [forward; backward; mask; embedding], which are never laid side by side here.
        representation: of both directions, aligned in time.
        observed: True where there is a reading.
        emb: node embedding; may have no rows.
    """
    enter, *between, leave = perceptron
    weight, bias = (enter.get_parameter(name) for name in ("weight", "bias"))
    width = representation.shape[-1]
    parts = torch.split(weight.flatten(1), [width, width, 1, len(emb)], 1)
    linear = nn.functional.linear
    forward, backward = representation.unbind(0)
    hidden = linear(forward, parts[0]) + linear(backward, parts[1])
    hidden = hidden + linear(observed.to(weight.dtype), parts[2])
    hidden = hidden + linear(emb.T, parts[3], bias)[:, None]
    for layer in between:
        hidden = layer(hidden)
    weight, bias = (leave.get_parameter(name) for name in ("weight", "bias"))
    return linear(hidden, weight.flatten(1), bias)
