"""Two directions of time as one batch: laying them out, turning them back, merging them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


class StepwiseLinear:
    """A linear map per direction that a recurrence applies exactly once at every step, in order.

    The gradient of the weights is one product over all steps, not one per step.
    """

    def __init__(self, weight: Float[Tensor, "2 o i"], offsets: Float[Tensor, "2 t b o"]) -> None:
        """Prepare the calls.

        Args:
            weight: of both directions.
            offsets: what is added at each step.
        """
        self.weight = weight.detach().mT.contiguous()
        self.inputs: list[Tensor] = []
        joined: Tensor = _WithWeights.apply(offsets, weight, self.inputs)  # type: ignore[no-untyped-call]
        self.offsets = iter(joined.unbind(1))

    def __call__(self, x: Float[Tensor, "2 b i"]) -> Float[Tensor, "2 b o"]:
        """Map the next step."""
        if torch.is_grad_enabled():
            self.inputs.append(x.detach())
        return torch.baddbmm(next(self.offsets), x, self.weight)


class _WithWeights(torch.autograd.Function):
    """The offsets of all steps; its gradient is where the gradient of the weights is computed."""

    @staticmethod
    def forward(ctx: Any, offsets: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs
        return offsets.view_as(offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs = torch.stack(ctx.inputs, 1).to(gradient.dtype)  # [2 t b i]
        return gradient, gradient.flatten(1, 2).mT @ inputs.flatten(1, 2), None


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
