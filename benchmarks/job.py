"""Hydra's task function: one cell, in whichever process a launcher starts it."""

import logging
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from benchmarks.cell import Cell, describe
from benchmarks.compose import cell_of
from benchmarks.errors import InputError
from benchmarks.execution import Execution
from benchmarks.process import cores, log_to_stderr
from benchmarks.rows import GOOD, RUNNING
from benchmarks.watch import STOPPED, run_watched

log = logging.getLogger(__name__)

ERROR = "error"
"""Status of a cell that could not leave a row."""


def job(config: DictConfig) -> str:
    """Runs one cell, again if it fails and may.

    Returns:
        The status of its row; "running" if another process is at it, "stopped" if the launch is to
        stop, "error" if there could be no row.
    """
    log_to_stderr()
    launch = config.launch
    stop_file = None if launch.stop_file is None else Path(launch.stop_file)
    if stop_file is not None and stop_file.exists():
        return STOPPED
    status = _status(config, stop_file)
    if config.fail_fast and stop_file is not None and status not in (*GOOD, RUNNING, STOPPED):
        stop_file.touch()
    return status


def _status(config: DictConfig, stop_file: Path | None) -> str:
    """Status of the cell's row, or "error" after a message."""
    try:
        cell, execution = cell_of(config)
        cell = replace(cell, trainer=replace(cell.trainer, threads=_threads(cell)))
        log.info("[%s] %s", config.launch.position, describe(cell.identity("", "")))
        return _attempts(cell, execution, config.launch.attempts, stop_file)
    except (InputError, TypeError) as error:  # TypeError: a key that no option has
        log.error("error: %s", error)
    except OSError as error:
        log.error("error: results_dir=%s cannot be written: %s", config.results_dir, error)
    except Exception:  # the other cells go on
        log.exception("error: a cell could not leave a row")
    return ERROR


def _attempts(cell: Cell, execution: Execution, before: int, stop_file: Path | None) -> str:
    """Status after as many attempts as the cell may have.

    Args:
        cell: the cell.
        execution: how it is watched.
        before: attempts that there were when the launch began; one more is another launch's, whose
            row is taken as it is.
        stop_file: the cell is given up when this file appears.
    """
    for attempt in range(max(1, execution.retry_failed)):
        status = str(run_watched(cell, execution, before + attempt, stop_file)["status"])
        if status in (*GOOD, RUNNING, STOPPED):
            break
    return status


def _threads(cell: Cell) -> int | None:
    """Threads of the cell: an equal part of the cores where the launcher runs several at a time."""
    at_a_time = HydraConfig.get().launcher.get("n_jobs")
    if cell.trainer.threads is not None or at_a_time is None:
        return cell.trainer.threads
    return max(1, cores() // (at_a_time if at_a_time > 0 else cores()))
