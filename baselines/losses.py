"""Losses over the labelled entries only."""

from jaxtyping import Bool, Float
from torch import Tensor


def masked_mae(
    prediction: Float[Tensor, "*shape"],
    target: Float[Tensor, "*shape"],
    mask: Bool[Tensor, "*shape"],
) -> Float[Tensor, ""]:
    """Mean absolute error over the entries where `mask` is True.

    `target` may hold anything, NaN too, where `mask` is False. An empty mask gives 0.
    """
    error = (prediction - target).where(mask, 0.0).abs()
    return error.sum() / mask.sum().clamp(min=1)
