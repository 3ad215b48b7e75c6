"""Runs the trials of a study until it has all of them, in this process or in several."""

import logging
import os
import sys
from collections.abc import Sequence
from multiprocessing import get_context

import optuna
from hydra.errors import HydraException
from optuna.trial import FrozenTrial, TrialState

from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.gpus import VISIBLE, visible_gpus
from benchmarks.identify import identify
from benchmarks.methods import build
from benchmarks.process import end_with_parent, log_to_stderr, spawning
from benchmarks.tune.fields import REPLACES
from benchmarks.tune.plan import Plan, composing
from benchmarks.tune.space import as_overrides
from benchmarks.tune.study import counted, lock, next_trial, open_study, repeat
from benchmarks.tune.table import write_tables
from benchmarks.tune.trial import Ended, run_trial, setting_of

log = logging.getLogger(__name__)

BAD_INPUT = 2
"""Exit code of a worker that was given something that cannot be."""

MOST_BREAKDOWNS = 3
"""As often in a row workers that died are started again."""


def run_study(plan: Plan) -> optuna.Study:
    """Runs what is missing of a study, and returns it.

    Raises:
        InputError: data, a method or a storage that cannot be used, or workers that die again and
            again.
    """
    fingerprint = _require_usable(plan)
    study = open_study(plan, fingerprint)
    if plan.options.n_workers == 1:
        work(plan, fingerprint)
        return study
    breakdowns = 0
    while _missing(study, plan):
        codes = _in_processes(plan, fingerprint)
        if BAD_INPUT in codes:
            raise InputError("a worker was stopped by bad input; its message is above")
        breakdowns = breakdowns + 1 if any(codes) else 0
        if breakdowns > MOST_BREAKDOWNS:
            raise InputError(f"the study's workers die again and again (exit codes {codes})")
    return study


def _require_usable(plan: Plan) -> str:
    """Checks that the method can be built on the dataset; returns the dataset's fingerprint."""
    found = identify(plan.default)
    if found.series is None:
        assert found.error is not None
        raise found.error
    try:
        build(plan.default.model, setting_of(plan.default, found.series))
    except NeedNotMetError as error:
        raise InputError(str(error)) from error
    return found.series.fingerprint


def _missing(study: optuna.Study, plan: Plan) -> bool:
    """Whether there is a trial to be run."""
    trials = counted(study.get_trials(deepcopy=False))
    unfinished = any(not trial.state.is_finished() for trial in trials)
    return unfinished or len(trials) < plan.options.n_trials


def _in_processes(plan: Plan, fingerprint: str) -> list[int]:
    """Exit codes of the workers, once all have ended."""
    with spawning():
        workers = [
            get_context("spawn").Process(target=_worker, args=(plan, fingerprint, number))
            for number in range(plan.options.n_workers)
        ]
        for worker in workers:
            worker.start()
    try:
        for worker in workers:
            worker.join()
    finally:  # an interrupt would leave them behind
        for worker in workers:
            worker.kill()
            worker.join()
    return [int(worker.exitcode or 0) for worker in workers]


def _worker(plan: Plan, fingerprint: str, number: int) -> None:
    """What each process does."""
    end_with_parent()
    use_own_gpus(number, plan.default.trainer.devices)
    log_to_stderr()
    try:
        work(plan, fingerprint)
    except (InputError, HydraException) as error:
        log.error("error: %s", error)
        sys.exit(BAD_INPUT)


def use_own_gpus(number: int, devices: int) -> None:
    """Gives a worker its part of the visible GPUs, if there are as many as it needs.

    Works until the process first uses a GPU. Where there are fewer GPUs than workers need, several
    share one.
    """
    gpus = visible_gpus()
    if len(gpus) >= devices:
        first = number * devices % (len(gpus) // devices * devices)
        os.environ[VISIBLE] = ",".join(gpus[first : first + devices])


def work(plan: Plan, fingerprint: str) -> None:
    """Runs trials in this process until none is left to be run."""
    study = open_study(plan, fingerprint)
    with composing(plan.options) as composed:
        while (trial := next_trial(study, plan)) is not None:
            values = as_overrides(plan.space.values(trial.params))
            cell = plan.on_this_machine(plan.cell(composed, values))
            log.info("trial %d: %s", trial.number, ", ".join(_short(values)))
            ended = run_trial(trial, cell, plan.options.also_minimise)
            with lock(plan):
                done = study.tell(trial, ended.values, ended.state)
                if ended.again and REPLACES not in done.user_attrs:
                    repeat(study, done)
                write_tables(study, plan)
            _say(study, plan, done, ended)


def _short(values: Sequence[str]) -> list[str]:
    """Overrides without the parts of the configuration that they stand in."""
    pairs = (word.partition("=") for word in values)
    return [f"{key.rpartition('.')[2]}={value}" for key, _, value in pairs]


def _say(study: optuna.Study, plan: Plan, trial: FrozenTrial, ended: Ended) -> None:
    trials = counted(study.get_trials(deepcopy=False))
    finished = sum(each.state.is_finished() for each in trials)
    state = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
    known = ended.row.get("reason") or f"validation MAE {trial.values[0]:.4g}"
    log.info("[%d/%d] trial %d %s: %s", finished, plan.options.n_trials, trial.number, state, known)
