"""Batches of windows, gathered from one copy of the series in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


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
        return Batch(*(part.to(device, non_blocking=non_blocking) for part in self._parts()))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory, from which copies to a GPU need not wait."""
        return Batch(*(part.pin_memory() for part in self._parts()))

    def _parts(self) -> tuple[Tensor, ...]:
        return self.x, self.visible, self.time_features, self.starts


class SeriesWindows(Dataset[Batch]):
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
        self._offsets = torch.arange(window)

    def __getitem__(self, starts: list[int]) -> Batch:
        """The windows that begin at `starts`."""
        first = torch.tensor(starts)
        steps = first[:, None] + self._offsets
        return Batch(self.x[steps], self.visible[steps], self.time_features[steps], first)


class ShuffledBatches(Sampler[list[int]]):
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


class OrderedBatches(Sampler[list[int]]):
    """Every window once, in order."""

    def __init__(self, starts: range, batch_size: int):
        self.starts, self.batch_size = starts, batch_size

    def __len__(self) -> int:
        return -(-len(self.starts) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, len(self.starts), self.batch_size):
            yield list(self.starts[first : first + self.batch_size])


def loader(windows: SeriesWindows, batches: Sampler[list[int]], pin: bool) -> DataLoader[Batch]:
    """A loader that yields one `Batch` per list of start steps.

    Its generator is its own: a loader draws a number each time it is iterated, and would shift
    the randomness of the training, but not at the same place after a resume.
    """
    return DataLoader(
        windows, sampler=batches, batch_size=None, pin_memory=pin, generator=torch.Generator()
    )
