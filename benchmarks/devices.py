"""One training on several devices: a process for each, and what they have to exchange."""

import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from torch.multiprocessing.spawn import ProcessRaisedException, start_processes

from benchmarks.errors import InputError
from benchmarks.metrics import WindowScorer
from benchmarks.process import end_with_parent, keep_freed_memory, spawning

Result = TypeVar("Result")
Report = Callable[[Mapping[str, float]], None]
"""Takes a line of a training's history."""

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"

GRACE_SECONDS = 5.0
"""How long the other processes may take to end by themselves after one has failed."""


class SharedScorer(WindowScorer):
    """Scores windows that several processes have predicted, each a part of them."""

    def add_up(self, added_up: Callable[[np.ndarray], np.ndarray]) -> None:
        """Takes in what the scorers of the other processes have; called once, after all windows.

        Args:
            added_up: replaces an array of one process by the sum of those of all processes.
        """
        self._absolute, self._squared = added_up(self._absolute), added_up(self._squared)
        self._sum, self._covered = added_up(self._sum), added_up(self._covered)


def require_shares(devices: int, windows: Mapping[str, int], on_gpu: bool) -> None:
    """Checks that there is a device for each process, and windows for each to work on.

    Args:
        devices: how many there have to be.
        windows: how many windows there are to share out, and where.
        on_gpu: whether a device is a GPU; a CPU can be shared by any number of processes.

    Raises:
        InputError: there are fewer.
    """
    if on_gpu and devices > torch.cuda.device_count():
        raise InputError(
            f"trainer.devices={devices}, but GPUs in this machine: {torch.cuda.device_count()}; "
            "choose at most as many, or trainer.accelerator=cpu"
        )
    for where, number in windows.items():
        if number < devices:
            raise InputError(
                f"trainer.devices={devices} is more than the windows {where}: {number}"
            )


def run_on_devices(devices: int, job: Callable[[Report], Result], report: Report) -> Result:
    """Runs `job` in as many new processes as devices and returns what the first returns.

    The processes are spawned: a fork would copy a CUDA context or a pool of threads, neither of
    which survives that, and a launcher that repeats the command line would repeat a whole sweep.

    Args:
        devices: number of processes.
        job: called once in each process; it and its result must be picklable. It is given a
            function that hands a line of the history to this process.
        report: called here with each line.

    Raises:
        Exception: the first that was raised in any of the processes; the others are then ended.
        ProcessExitedException: a process was ended from outside, such as for want of memory.
    """
    lines = get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="psan-devices-") as name:
        folder = Path(name)
        (folder / "job").write_bytes(pickle.dumps(job))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
        with spawning(), _quiet_workers():
            group = start_processes(
                _process, (folder, address, lines), devices, join=False, start_method="spawn"
            )
        try:
            while not group.join(timeout=0.1, grace_period=GRACE_SECONDS):
                _pass_on(lines, report)
            _pass_on(lines, report)
        except ProcessRaisedException as stop:
            _pass_on(lines, report)
            raise _first_error(folder) or stop from stop
        finally:  # an interrupt, or an error in `report`, would leave them behind
            for process in group.processes:
                process.kill()
                process.join()
        result: Result = pickle.loads((folder / "result").read_bytes())
        return result


@contextmanager
def _quiet_workers() -> Iterator[None]:
    """The first step of new processes would warn of a search for unused parameters.

    It may find none, as it should.
    """
    level = os.environ.get(LOG_LEVEL)
    os.environ[LOG_LEVEL] = level or "ERROR"
    try:
        yield
    finally:
        if level is None:
            del os.environ[LOG_LEVEL]


def _process(
    rank: int, folder: Path, address: Mapping[str, str], lines: "SimpleQueue[Mapping[str, float]]"
) -> None:
    """What each process does."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", **address}
    end_with_parent()
    keep_freed_memory()
    try:
        result = pickle.loads((folder / "job").read_bytes())(lines.put)
    except Exception as error:
        # It is written before this process ends, which is how the others come to fail too.
        (folder / f"error{rank}").write_bytes(_pickled(error))
        raise
    if rank == 0:
        (folder / "result").write_bytes(pickle.dumps(result))
    torch.distributed.destroy_process_group()


def _pickled(error: Exception) -> bytes:
    """The error, or what it says where it is of a kind that cannot be pickled."""
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:
        return pickle.dumps(RuntimeError(repr(error)))
    return content


def _first_error(folder: Path) -> Exception | None:
    errors = sorted(folder.glob("error*"), key=lambda path: path.stat().st_mtime_ns)
    return pickle.loads(errors[0].read_bytes()) if errors else None


def _pass_on(lines: "SimpleQueue[Mapping[str, float]]", report: Report) -> None:
    while not lines.empty():
        report(lines.get())
