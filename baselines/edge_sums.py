"""Sums over the edges that end in the same row, for SPIN-H."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.pair_plan import SOFTMAX_EPS


def softmax_by_target(
    score: Float[Tensor, "p t 1"], rows: Int[Tensor, " p"], n_rows: int
) -> Float[Tensor, "p t 1"]:
    """Softmax over the pairs that share a target row."""
    index = rows[:, None, None].expand_as(score)
    start = score.new_full((n_rows, *score.shape[1:]), -torch.inf)
    peak = start.scatter_reduce(0, index, score.detach(), "amax")
    e = torch.exp(score - peak[rows])
    total = e.new_zeros(start.shape).index_add(0, rows, e)
    return e / (total[rows] + SOFTMAX_EPS)


def sums_by_target(
    score: Float[Tensor, "p t 1"] | None,
    rows: Int[Tensor, " p"],
    n_rows: int,
    *values: Float[Tensor, "p t _"],
) -> list[Float[Tensor, "r t _"]]:
    """Sums of values by target row, weighted by a softmax of the edges' scores if any."""
    if score is not None:
        shares = softmax_by_target(score, rows, n_rows)
        values = tuple(shares.to(value.dtype) * value for value in values)
    zeros = (value.new_zeros(n_rows, *value.shape[1:]) for value in values)
    return [zero.index_add(0, rows, v) for zero, v in zip(zeros, values, strict=True)]
