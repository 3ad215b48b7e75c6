"""How much each hyper-parameter of a study decides about the error."""

import warnings

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from benchmarks.tune.records import Records

LEAST = 8
"""Trials below which no importance is worth a look."""


def importances(records: Records) -> dict[str, float]:
    """Share of the error's variance that each parameter explains, the largest first.

    By fANOVA (Hutter, Hoos, Leyton-Brown, ICML 2014) as Optuna has it, over the trials that can be
    compared; empty where these are too few or all alike.
    """
    compared = records.comparable()
    if len(compared) < LEAST or len({error for _, error in compared}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    drawn = records.space.distributions()
    for trial, error in compared:
        parameters = {name: trial[name] for name in drawn}
        study.add_trial(create_trial(params=parameters, distributions=drawn, value=error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = FanovaImportanceEvaluator(seed=0)
        return get_param_importances(study, evaluator=evaluator)
