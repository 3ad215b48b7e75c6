"""From the command line to a plan, through one of Hydra's launchers, to the rows."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from uuid import uuid4

import hydra
from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import open_dict

from benchmarks.atomic import require_writable
from benchmarks.cell import describe
from benchmarks.compose import Composer, composer
from benchmarks.errors import InputError
from benchmarks.job import ERROR, job
from benchmarks.launchers import is_lost_job, prepare_launcher
from benchmarks.paths import conf_dir
from benchmarks.plan import Plan, PlannedCell, keep_plan, make_plan
from benchmarks.process import log_to_stderr
from benchmarks.progress import BAD, MISSING, REFUSED, State, look, preview, would_run
from benchmarks.rows import RUNNING, assemble, attempts
from benchmarks.sweeps import MULTIRUN, value_of
from benchmarks.tracking import close_dead_runs, end_sweep
from benchmarks.watch import STOPPED

log = logging.getLogger(__name__)

INFORMATION = frozenset(
    {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
)
"""Flags with which Hydra prints something and runs nothing."""

PLAN = "--plan"
"""Flag with which a command line is shown as cells, and not run."""

SOME_REFUSED, SOME_FAILED = 1, 3
"""Exit codes: a cell could not be; cells failed and the others were done."""

POLL_SECONDS = 2
"""Time between two looks at the cells that another launch is at."""

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

MOST_BREAKDOWNS = 3
"""As often a launcher whose processes were killed is started again without a new row."""


def launch(arguments: Sequence[str]) -> int:
    """Runs what the command line asks for, then assembles the experiment's table.

    Returns:
        The exit code: 0 when all cells are done, 1 if one was refused, 3 if one failed.

    Raises:
        InputError: an unknown experiment, a sweep without `-m`, a launcher whose extra is absent,
            or a results folder that cannot be written.
        HydraException: what Hydra cannot parse or compose.
    """
    log_to_stderr()
    if INFORMATION & {argument.partition("=")[0] for argument in arguments}:
        sys.argv[1:] = arguments
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
        return 0
    show, arguments = PLAN in arguments, [each for each in arguments if each != PLAN]
    if not show:
        require_writable(Path(value_of(arguments, "results_dir") or "results"), "results_dir")
    multirun = bool(MULTIRUN & set(arguments))
    wait_for_jobs = prepare_launcher(value_of(arguments, "hydra/launcher"), multirun)
    plan = make_plan(arguments)
    if len(plan.cells) > 1 and not multirun:
        raise InputError(f"the command line asks for {len(plan.cells)} cells: launch it with -m")
    for reason in dict.fromkeys(cell.refused for cell in plan.cells if cell.refused):
        log.error("error: %s", reason)
    if show:
        sys.stdout.write(preview(plan, look(plan)))
        return SOME_REFUSED if any(cell.refused for cell in plan.cells) else 0
    keep_plan(plan, arguments)
    errors = 0
    try:
        with composer(arguments) as composing:
            errors = _Launch(plan, composing, multirun, wait_for_jobs).run()
            tracking = dict(composing.sweep.tracking)
    finally:
        code = _finish(plan)
    if multirun:
        close_dead_runs(tracking, plan.folder)
        end_sweep(tracking, plan.folder)
    return SOME_REFUSED if errors else code


class _Launch:
    """Hands the cells of a plan that are to be run to Hydra's launcher, until none is left.

    Args:
        plan: the cells.
        composing: composes the launcher.
        multirun: whether the launcher is the one that the command line names; else cells are run
            here, one by one.
        wait_for_jobs: waits until the launcher has none of its jobs any more.
    """

    def __init__(
        self,
        plan: Plan,
        composing: Composer,
        multirun: bool,
        wait_for_jobs: Callable[[], None],
    ):
        self.plan, self.config = plan, composing.sweep
        self._wait_for_jobs = wait_for_jobs
        self._tried: set[str] = set()
        self._errors = 0
        self._stop_file = plan.folder / f".stop-{uuid4().hex}"
        if not multirun:
            with open_dict(self.config):
                self.config.hydra.launcher = {"_target_": BASIC}
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(composing.loader, Callbacks(self.config)),
            task_function=job,
            config=self.config,
        )

    def run(self) -> int:
        """Runs cells in passes: one that another launch was at comes again if it is free.

        Returns:
            How many cells could not even leave a row.

        Raises:
            InputError: the launcher's processes die again and again.
        """
        breakdowns, waiting = 0, False
        states = look(self.plan)
        self._before = {state.planned.key: attempts(state.row) for state in states}
        done = sum(state.status == "done" for state in states)
        if done:
            log.info("%d of %d cells done before", done, len(self.plan.cells))
        try:
            while not self._stop_file.exists():
                states = look(self.plan)
                todo = [state.planned for state in states if self._is_to_run(state)]
                if todo:
                    waiting = False
                    breakdowns = 0 if self._pass(todo) else breakdowns + 1
                    if breakdowns > MOST_BREAKDOWNS:
                        target = self.config.hydra.launcher._target_
                        raise InputError(f"the processes of {target} die again and again")
                elif any(state.status == RUNNING for state in states):
                    if not waiting:
                        log.info("waiting for cells that another launch is at")
                    waiting = True
                    time.sleep(POLL_SECONDS)
                else:
                    break
        finally:
            self._stop_file.unlink(missing_ok=True)
        return self._errors

    def _is_to_run(self, state: State) -> bool:
        """Whether it lacks a row, was skipped, or failed before this launch and is tried again."""
        key = state.planned.key
        if key in self._tried or attempts(state.row) > self._before.get(key, 0):
            return False
        return would_run(state)

    def _pass(self, todo: Sequence[PlannedCell]) -> bool:
        """Runs each of these cells, and tells whether the launcher lived to the end."""
        places = {cell.key: place for place, cell in enumerate(self.plan.cells, start=1)}
        jobs = [
            [
                *cell.overrides,
                f"launch.position={places[cell.key]}/{len(places)}",
                f"launch.stop_file='{self._stop_file}'",
                f"launch.attempts={self._before[cell.key]}",
            ]
            for cell in todo
        ]
        try:
            returned = self._launcher.launch(jobs, initial_job_idx=0)
        except BrokenProcessPool:
            log.warning("a process of the launcher was killed; what it was at is run again")
            return False
        except Exception as error:
            if not is_lost_job(error):
                raise
            log.error("a job ended and left no result: %s", error)
            self._wait_for_jobs()
            self._tried |= {cell.key for cell in todo}  # not again: it may have been cancelled
            return True
        for cell, each in zip(todo, returned, strict=True):
            status = each.return_value
            self._errors += status == ERROR
            if status not in (RUNNING, STOPPED):
                self._tried.add(cell.key)
        return True


def _finish(plan: Plan) -> int:
    """Writes the table, says what came of the cells of this launch, and finds the exit code."""
    try:
        table = assemble(plan.folder)
    except OSError as error:
        log.error("error: %s cannot be written: %s", plan.folder / "runs.csv", error.strerror)
        return SOME_REFUSED
    log.info(
        "%s: %d of %d rows done",
        plan.folder / "runs.csv", (table["status"] == "done").sum(), len(table),
    )  # fmt: skip
    states = look(plan)
    for state in states:
        if state.status in BAD and state.row is not None:
            row = state.row
            log.error("  %s: %s: %s", describe(row), row["status"], row["reason"])
    if any(state.status == REFUSED for state in states):
        return SOME_REFUSED
    missing = sum(state.status == MISSING for state in states)
    if missing:
        log.error("cells that were not run: %d; launch again", missing)
    return SOME_FAILED if missing or any(state.status in BAD for state in states) else 0
