"""The GPUs of this machine, found without torch, and their leases to cells."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout

from benchmarks.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable: the GPUs that a process may use; empty = none."""

DEVICE_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""What Linux has in `/dev` where there is a GPU that torch may use (NVIDIA, AMD, WSL)."""

SCHEDULERS = ("SLURM_JOB_ID", "RAY_JOB_ID", "PBS_JOBID", "LSB_JOBID")
"""Environment variables of jobs: SLURM, Ray, PBS, LSF."""

POLL_SECONDS = 0.5


def may_have_gpu() -> bool:
    """Whether it is worth asking torch, which takes seconds to import, for a GPU."""
    if os.environ.get(VISIBLE) in ("", "-1"):
        return False
    return sys.platform != "linux" or any(
        True for pattern in DEVICE_FILES for _ in Path("/dev").glob(pattern)
    )


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` writes them."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def are_given_by_scheduler() -> bool:
    """Whether this process is a job whose GPUs are its own already.

    Each job then calls its first GPU 0, whichever it is.
    """
    return any(variable in os.environ for variable in SCHEDULERS)


@contextmanager
def lease(count: int, per_gpu: int, preferred: Sequence[str] = ()) -> Iterator[list[str]]:
    """Waits for some of this machine's GPUs and keeps other cells from them for a block.

    The system ends the lease of a process that dies. Processes of other users, and programs other
    than the suite, are not kept from anything.

    Args:
        count: how many GPUs the cell needs.
        per_gpu: how many cells may have a lease of the same GPU; all launches should agree.
        preferred: taken first if they are free.

    Raises:
        InputError: there are fewer.
    """
    gpus = visible_gpus()
    if count > len(gpus):
        raise InputError(f"trainer.devices={count}, but GPUs to lease: {', '.join(gpus) or 'none'}")
    while True:
        with ExitStack() as held:
            leased = _take(count, sorted(gpus, key=lambda gpu: gpu not in preferred), per_gpu, held)
            if len(leased) == count:
                yield leased
                return
        time.sleep(POLL_SECONDS)


def _take(count: int, gpus: Sequence[str], per_gpu: int, held: ExitStack) -> list[str]:
    """Up to `count` GPUs, those with the fewest leases first."""
    folder = Path(tempfile.gettempdir()) / f"psan-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    leased: list[str] = []
    for slot, gpu in product(range(per_gpu), gpus):
        if len(leased) < count and gpu not in leased:
            lock = folder / f"{gpu.replace('/', '_')}-{slot}.lock"
            with suppress(Timeout):
                held.enter_context(FileLock(lock, timeout=0))
                leased.append(gpu)
    return leased
