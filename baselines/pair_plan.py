"""Which sequences attend to which, sorted to be computed in chunks of equal length."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

SOFTMAX_EPS = 5e-8  # added to the sum of exponentials, as published
L1_EPS = 1e-5  # added to the sum of sigmoids, as published
# Numbers per tensor of a chunk: on a CPU few enough for the cache, on a GPU enough to keep it busy.
CHUNK_CPU = 2**19
CHUNK_GPU = 2**26


@dataclass(frozen=True)
class PairPlan:
    """Which source sequence sends to which target sequence, sorted for computation in chunks.

    Attributes:
        source_rows: row of the source sequence, one per pair, pairs with most usable steps first.
        target_rows: row of the target sequence, one per pair.
        out_rows: row of the output to which the result of the pair is added.
        counts: usable source steps of each pair.
        root_rows: target row that belongs to each output row; None: the same row.
        n_out: number of output rows.
        order: source steps of each source row, usable ones first; None: as they are.
        other_steps_only: a target step ignores the source step with the same index.
    """

    source_rows: Int[Tensor, " p"]
    target_rows: Int[Tensor, " p"]
    out_rows: Int[Tensor, " p"]
    counts: Int[Tensor, " p"]
    root_rows: Int[Tensor, " o"] | None
    n_out: int
    order: Int[Tensor, "r s"] | None
    other_steps_only: bool

    @cached_property
    def table(self) -> Int[Tensor, "p 4"]:
        """Source row, target row, output row and count of each pair, sorted by output row."""
        columns = [self.source_rows, self.target_rows, self.out_rows, self.counts]
        return torch.stack(columns, 1)[self.out_rows.argsort(stable=True)]

    def chunks(self, width: int) -> Iterator[tuple[slice, int]]:
        """Slices of consecutive pairs, each with its largest number of usable source steps.

        Args:
            width: numbers per pair and source step (target steps x features).
        """
        budget = CHUNK_CPU if self.counts.device.type == "cpu" else CHUNK_GPU
        counts = self.counts.tolist()
        start = 0
        while start < len(counts) and counts[start] > 0:
            stop = min(len(counts), start + max(1, budget // (counts[start] * width)))
            yield slice(start, stop), counts[start]
            start = stop

    def excluded(self, pairs: slice, n_source: int, n_target: int) -> Bool[Tensor, "p #t s"] | None:
        """Which (pair, target step, source step) of a chunk get no weight; None: all count."""
        slot = torch.arange(n_source, device=self.counts.device)
        excluded = (slot >= self.counts[pairs, None])[:, None]  # [p 1 s]
        if not self.other_steps_only:
            return excluded if bool(excluded.any()) else None
        rows = self.source_rows[pairs]
        steps = slot.expand(len(rows), -1) if self.order is None else self.order[rows, :n_source]
        return excluded | (steps[:, None] == torch.arange(n_target, device=slot.device)[:, None])


def plan_pairs(
    pairs: Int[Tensor, "2 p"],
    n_steps: int,
    usable: Bool[Tensor, "r s"] | None = None,
    n_targets: int | None = None,
    other_steps_only: bool = False,
) -> PairPlan:
    """Sort pairs of sequences.

    Args:
        pairs: source row (first) and target row (second) of each pair.
        n_steps: length of the source sequences.
        usable: source steps that may be attended to (True), for every source row. None: all.
        n_targets: number of target rows, into which the results of the pairs are summed.
            None: one result per pair, in the given order.
        other_steps_only: a target step ignores the source step with the same index.
    """
    source, target = pairs
    each = torch.arange(pairs.shape[1], device=pairs.device)
    root = target if n_targets is None else None
    out, n_out = (each, len(each)) if n_targets is None else (target, n_targets)
    if usable is None:
        counts = torch.full_like(source, n_steps)
        return PairPlan(source, target, out, counts, root, n_out, None, other_steps_only)
    order = usable.int().argsort(dim=1, descending=True, stable=True)
    counts, rank = usable.sum(1)[source].sort(descending=True, stable=True)
    return PairPlan(
        source[rank], target[rank], out[rank], counts, root, n_out, order, other_steps_only
    )
