"""What an error says of a cell."""

import errno
from typing import Any

import torch

from benchmarks.errors import InputError
from benchmarks.training import NonFiniteLossError

CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What torch says, in an error of no special kind, where a CPU has no memory left."""

NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a file system that takes no more files."""


def failure_of(error: Exception) -> dict[str, Any]:
    """Status and reason of a row whose run ended with `error`."""
    text = str(error) if isinstance(error, (InputError, NonFiniteLossError)) else repr(error)
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or CPU_MEMORY in text
    return {"status": "out_of_memory" if memory else "failed", "reason": text}


def is_about_place(error: Exception) -> bool:
    """Whether no more files could be written: no fault of the cell, which leaves no row."""
    return isinstance(error, OSError) and error.errno in NO_PLACE
