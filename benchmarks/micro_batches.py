"""A training that does not fit into a device's memory: the same batches, in several parts."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def within_memory(train: Callable[[int], Result], network: nn.Module, most: int) -> Result:
    """Trains with as few micro-batches as a device's memory allows.

    Each batch is then worked on part by part and the gradients are added up, which changes the
    result by rounding, by other draws of dropout, and as `loss_weight` in `benchmarks.training`
    says. Every time that memory runs out there are twice as many parts, and the training goes on
    from its last epoch.

    Args:
        train: trains `network`, from its last checkpoint if it has one, in so many micro-batches.
        network: gets its first weights back before each attempt.
        most: as many parts there can be.

    Raises:
        torch.OutOfMemoryError: `most` parts do not fit either.
    """
    first = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    parts = 1
    while True:
        try:
            return train(parts)
        except torch.OutOfMemoryError:
            if parts == most:
                raise
        parts = min(2 * parts, most)
        log.warning("out of memory: going on with %d micro-batches for each batch", parts)
        network.load_state_dict(first)
        gc.collect()  # the failed attempt's tensors hang on cycles of the trainer
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
