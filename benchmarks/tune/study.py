"""The study in Optuna: its storage, sampler and pruner, and the trials that are next."""

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.claims import STALE_SECONDS, Claim, holder
from benchmarks.errors import InputError
from benchmarks.rows import cell_folder
from benchmarks.tune.fields import CELL, CLAIM, DEFAULT, DEFINITION, ORIGIN, REPLACES, TRIALS
from benchmarks.tune.plan import Plan, differences

log = logging.getLogger(__name__)

JOURNAL = "journal.log"
LOCK = "study.lock"

MOST_REPEATS = 3
"""As often the parameters of a trial are tried whose process died."""

STARTUP_TRIALS = 10
"""Trials whose parameters are drawn at random before TPE has something to go by."""


def lock(plan: Plan) -> FileLock:
    """Held while trials are counted, taken or recovered; a dead process loses it."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    return FileLock(plan.folder / LOCK)


def open_study(plan: Plan, fingerprint: str) -> optuna.Study:
    """The study, created if it is not there; the default configuration is then its first trial.

    Raises:
        InputError: a storage that cannot be used, or a study of the same name but of another
            method, dataset, budget or search space.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    definition = json.loads(json.dumps(plan.definition(fingerprint)))
    with lock(plan):
        study = _in_storage(plan)
        before = study.user_attrs.get(DEFINITION)
        if before is None:
            if (plan.folder / TRIALS).exists():
                raise InputError(
                    f"{plan.folder} has trials that the study's storage does not know: give the "
                    "storage= that they were in, another study=NAME, or delete the folder"
                )
            study.set_user_attr(DEFINITION, definition)
            parameters = plan.space.defaults({"model": plan.default.model})
            if parameters is None:
                log.info("the default configuration is outside the search space: it is not tried")
            else:
                study.enqueue_trial(parameters, {ORIGIN: DEFAULT})
        elif before != definition:
            changed = "; ".join(differences(before, definition))
            raise InputError(
                f"study={plan.name} was begun with other values: {changed}. Give the same, or "
                "another study=NAME"
            )
    return study


def _in_storage(plan: Plan) -> optuna.Study:
    minimise = StudyDirection.MINIMIZE
    try:
        return optuna.create_study(
            study_name=plan.name,
            storage=_storage(plan),
            directions=[minimise] * (2 if plan.options.also_minimise else 1),
            pruner=_pruner(plan),
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"storage={plan.options.storage} cannot be used: {reason}") from error


def _storage(plan: Plan) -> BaseStorage:
    url = plan.options.storage
    if not url:
        return JournalStorage(_journal(plan.folder / JOURNAL))
    wait: Any = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **wait})


def _journal(path: Path) -> JournalFileBackend:
    """The journal, with a lock that a dead process loses, and without a torn last line.

    Optuna's own locks stay behind when their holder is killed, and a line that a power cut left
    half-written would make the file unreadable with the next line.
    """
    guard: Any = FileLock(f"{path}.lock")
    with guard, suppress(FileNotFoundError), path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            log.warning("%s: its last line was half-written and is dropped", path)
            file.truncate(whole)
    return JournalFileBackend(str(path), lock_obj=guard)


def _pruner(plan: Plan) -> BasePruner:
    epochs = plan.default.trainer.max_epochs
    pruners: Mapping[str, BasePruner] = {
        "hyperband": HyperbandPruner(min_resource=1, max_resource=epochs),
        "median": MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 4)),
        "none": NopPruner(),
    }
    return pruners[plan.options.pruner]


def counted(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count towards `n_trials`: the last of each row of repeats."""
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    return [trial for trial in trials if trial.number not in replaced]


def next_trial(study: optuna.Study, plan: Plan) -> Trial | None:
    """Takes the next trial, or None when the study has all of its trials.

    Its parameters follow from the seed and from the trials before it: the sampler is made anew for
    each trial, so that a launch that goes on draws what the interrupted one would have drawn.
    """
    with lock(plan):
        recover(study, plan)
        trials = study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        number = len(counted(trials))
        if not waiting and number >= plan.options.n_trials:
            return None
        seeds = np.random.SeedSequence([plan.default.seed, number]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=int(seeds[0])
        )
        trial = study.ask(plan.space.distributions())
        claim = Claim.own()
        trial.set_user_attr(CLAIM, asdict(claim))
        return trial


def recover(study: optuna.Study, plan: Plan) -> None:
    """Marks trials whose process died as failed and queues their parameters again."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_alive(trial, plan):
            continue
        study.tell(trial.number, state=TrialState.FAIL)
        repeats = _repeats(study, trial)
        if repeats >= MOST_REPEATS:
            log.error("trial %d: its process died %d times", trial.number, repeats)
        else:
            log.info("trial %d: its process died; it is queued again", trial.number)
            repeat(study, trial)


def repeat(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues the parameters of a trial again; the new one counts instead of it."""
    kept = {name: trial.user_attrs[name] for name in (ORIGIN,) if name in trial.user_attrs}
    study.enqueue_trial(trial.params, kept | {REPLACES: trial.number})


def _repeats(study: optuna.Study, trial: FrozenTrial) -> int:
    """How many trials had these parameters, one for the other."""
    by_number = {other.number: other for other in study.get_trials(deepcopy=False)}
    count, number = 1, trial.user_attrs.get(REPLACES)
    while number is not None:
        count, number = count + 1, by_number[number].user_attrs.get(REPLACES)
    return count


def _is_alive(trial: FrozenTrial, plan: Plan) -> bool:
    """Whether a process works on a running trial."""
    if CLAIM not in trial.user_attrs:
        return False  # it was to be set under the lock that this process holds
    claim = Claim(**trial.user_attrs[CLAIM])
    there = claim.process_is_there()
    if there is not None:
        return there
    if CELL in trial.user_attrs:  # on another machine the claim of the cell has a heartbeat
        return holder(cell_folder(plan.folder, trial.user_attrs[CELL])) is not None
    return Claim.own().since - claim.since < STALE_SECONDS
