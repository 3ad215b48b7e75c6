"""Batches of windows, gathered from one copy of the series where the network is.

The series stays in the memory of the device; only the numbers of the windows travel to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """A batch of windows; nothing hidden is in it.

    `x` is scaled and 0 where not visible, `visible` is True where a method may look, `starts` are
    the windows' first steps in the series.
    """

    x: Float[Tensor, "b t n 1"]
    visible: Bool[Tensor, "b t n 1"]
    time_features: Float[Tensor, "b t f"]
    starts: Int[Tensor, "b"]

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """The batch on another device."""
        parts = (self.x, self.visible, self.time_features, self.starts)
        return Batch(*(part.to(device, non_blocking=non_blocking) for part in parts))

    def __getitem__(self, part: slice) -> "Batch":
        """Some of the windows."""
        return Batch(self.x[part], self.visible[part], self.time_features[part], self.starts[part])


@dataclass(frozen=True)
class Share:
    """Which part of a list of windows is for this process, one of several that share the work.

    Micro-batches, which one process works on one after the other, are shares as well.

    The parts of all processes are the whole, each window once; they differ by one window at most.
    """

    rank: int = 0
    processes: int = 1

    def of(self, windows: int) -> slice:
        """The part of so many windows; empty where there are fewer windows than processes."""
        first, end = (windows * r // self.processes for r in (self.rank, self.rank + 1))
        return slice(first, end)

    def part(self, number: int, parts: int) -> "Share":
        """One of some parts of this share."""
        return Share(self.rank * parts + number, self.processes * parts)


class SeriesWindows:
    """Windows of a series; an item is a whole batch, asked for by its start steps.

    Args:
        x: scaled readings, 0 where not visible.
        visible: True where a method may look.
        time_features: features of each step.
        window: steps in a window.
    """

    def __init__(
        self,
        x: Float[Tensor, "t n"],
        visible: Bool[Tensor, "t n"],
        time_features: Float[Tensor, "t f"],
        window: int,
    ):
        self.x, self.visible, self.time_features = x[..., None], visible[..., None], time_features
        self._offsets = torch.arange(window, device=x.device)

    def to(self, device: torch.device) -> "SeriesWindows":
        """The windows of a copy of the series on another device; batches are gathered there."""
        return SeriesWindows(
            self.x[..., 0].to(device),
            self.visible[..., 0].to(device),
            self.time_features.to(device),
            len(self._offsets),
        )

    def __getitem__(self, starts: list[int]) -> Batch:
        """The windows that begin at `starts`."""
        first = torch.tensor(starts).to(self.x.device, non_blocking=True)
        steps = first[:, None] + self._offsets
        return Batch(self.x[steps], self.visible[steps], self.time_features[steps], first)


class ShuffledBatches:
    """Random batches of windows; a function of the seed and the epoch, so a resumed run repeats it.

    The last, smaller batch of a pass is dropped unless it is the only one.
    """

    def __init__(self, starts: range, batch_size: int, batches_per_epoch: int, seed: int):
        self.starts, self.seed, self.epoch = starts, seed, 0
        self.batch_size = min(batch_size, len(starts))
        self._length = min(batches_per_epoch, len(starts) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.starts), generator=generator)
        for batch in order[: self._length * self.batch_size].split(self.batch_size):
            yield (batch + self.starts[0]).tolist()


class OrderedBatches:
    """Every window once, in order."""

    def __init__(self, starts: range, batch_size: int):
        self.starts, self.batch_size = starts, batch_size

    def __len__(self) -> int:
        return -(-len(self.starts) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self.starts), self.batch_size):
            yield list(self.starts[first : first + self.batch_size])


class Loader:
    """Yields one `Batch` per list of start steps; what the trainer takes for a `DataLoader`.

    It looks for `sampler`, whose epoch it sets, and for `batch_sampler`.

    Gathering a batch takes a fraction of a millisecond: there are no workers to do it ahead.

    Args:
        windows: what the batches are gathered from.
        batches: lists of start steps.
        times: how often each batch comes in a row; a part of it is worked on each time.
    """

    batch_sampler = None

    def __init__(
        self, windows: SeriesWindows, batches: ShuffledBatches | OrderedBatches, times: int = 1
    ):
        self.windows, self.sampler, self.times = windows, batches, times

    def __len__(self) -> int:
        return len(self.sampler) * self.times

    def __iter__(self) -> Iterator[Batch]:
        for starts in self.sampler:
            batch = self.windows[starts]
            yield from repeat(batch, self.times)
