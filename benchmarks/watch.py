"""Runs a cell in a worker process that is watched: what becomes of it becomes the cell's row.

Whatever happens to the process, be it killed for want of memory, stuck or crashed, the next cell
gets a new one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from benchmarks.cell import Cell
from benchmarks.execution import Execution
from benchmarks.gpus import are_given_by_scheduler, lease, visible_gpus
from benchmarks.worker import DeadlineError, Row, StoppedError, Worker, WorkerDiedError

MOST_RECORDINGS = 3
"""Attempts to write the row of a cell whose worker died."""

STOPPED = "stopped"
"""Status of a cell that was not run, or not to its end, because another one failed."""


def run_watched(cell: Cell, execution: Execution, attempts: int, stop_file: Path | None) -> Row:
    """Runs a cell in a worker process, or in this one with `isolate=false`.

    Args:
        cell: the cell.
        execution: how it is watched.
        attempts: how many there were; if its row tells of more, that row is taken.
        stop_file: the cell is given up when this file appears.

    Returns:
        Its row, or one with nothing but a status where no row was written: the cell is another
        process's ("running"), or the launch was stopped ("stopped").

    Raises:
        InputError: the results folder cannot be used.
        OSError: nothing can be written there any more.
    """
    if not execution.isolate:
        from benchmarks.execute import run_cell

        return run_cell(cell, attempts)
    with _leased(cell, execution.cells_per_gpu) as gpus:
        started = time.monotonic()
        try:
            return _worker(gpus).run((cell, attempts), execution.timeout, stop_file)
        except StoppedError:
            return {"status": STOPPED}
        except DeadlineError:
            failure: Row = {
                "status": "timeout",
                "reason": f"took longer than timeout={execution.timeout:g} seconds; a training "
                "goes on from its last epoch when it is given more",
            }
        except WorkerDiedError as death:
            status = "out_of_memory" if death.killed else "failed"
            failure = {"status": status, "reason": str(death)}
        failure |= {"seconds": round(time.monotonic() - started, 2)}
        return _recorded((cell, attempts, failure), gpus)


def _recorded(request: tuple[Any, ...], gpus: list[str] | None) -> Row:
    """The row of a cell whose worker could not write it, by a new worker, which may die as well."""
    for _ in range(MOST_RECORDINGS - 1):
        with suppress(WorkerDiedError):
            return _worker(gpus).run(request, None, None)
    return _worker(gpus).run(request, None, None)


@contextmanager
def _leased(cell: Cell, per_gpu: int) -> Iterator[list[str] | None]:
    """The GPUs that the cell gets; None where it needs none or there are none to share out."""
    needs_none = cell.trainer.accelerator == "cpu" or cell.training is None
    gpus_here = [] if are_given_by_scheduler() else visible_gpus()
    if needs_none or len(gpus_here) < cell.trainer.devices:  # too few: the training refuses it
        yield None
        return
    before = [] if _current is None else _current.gpus or []
    with lease(cell.trainer.devices, per_gpu, before) as gpus:
        yield gpus


_current: "Worker | None" = None
"""The worker of this process."""


def _worker(gpus: list[str] | None) -> "Worker":
    """The living worker that may use just these GPUs, a new one if need be."""
    global _current
    if _current is not None and not (_current.is_alive() and _current.may_serve(gpus)):
        end_worker()
    if _current is None:
        _current = Worker(gpus)
        Finalize(None, end_worker, exitpriority=1)  # else this process would wait for it
    return _current


def end_worker() -> None:
    """Ends the worker of this process, if there is one."""
    global _current
    if _current is not None:
        _current.end()
        _current = None
