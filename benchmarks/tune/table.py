"""A study's files: its definition, its trials and their epochs, from which all else is made."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from benchmarks.atomic import write_text_atomically
from benchmarks.tune.plan import Plan
from benchmarks.tune.study import CELL, DEFINITION, ORIGIN, REPLACES
from benchmarks.tune.trial import CURVE, FACTS, KEPT, REASON

STUDY, TRIALS, EPOCHS = "study.yaml", "trials.csv", "epochs.csv"

STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

COLUMNS = ("trial", "state", "reason", "origin", "repeats", "val_mae", *KEPT, "key")
"""Columns of `trials.csv` before those of the parameters; `val_mae` is the best of the epochs that
the trial had, in original units, and `repeats` the trial that this one was run instead of."""


def write_tables(study: optuna.Study, plan: Plan) -> None:
    """Writes the definition, all trials and all epochs into the study's folder."""
    trials = study.get_trials(deepcopy=False)
    definition = study.user_attrs[DEFINITION]
    names = [*dict.fromkeys([*plan.space.keys, *plan.space.drawn])]
    text = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True)
    write_text_atomically(plan.folder / STUDY, text)
    lines = [_line(trial, plan) for trial in trials if trial.state != TrialState.WAITING]
    _write_csv(plan.folder / TRIALS, [*COLUMNS, *names], lines)
    epochs = (
        {"trial": trial.number, "epoch": epoch, "val_mae": value}
        for trial in trials
        for epoch, value in enumerate(trial.user_attrs.get(CURVE, ()), start=1)
    )
    _write_csv(plan.folder / EPOCHS, ["trial", "epoch", "val_mae"], epochs)


def _line(trial: FrozenTrial, plan: Plan) -> dict[str, Any]:
    attributes = trial.user_attrs
    curve = attributes.get(CURVE) or ()
    values = trial.values or [None]
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "reason": attributes.get(REASON, ""),
        "origin": attributes.get(ORIGIN, "sampler"),
        "repeats": attributes.get(REPLACES, ""),
        "val_mae": min(curve, default=values[0]),
        **attributes.get(FACTS, {}),
        "key": attributes.get(CELL, ""),
        **trial.params,
        **plan.space.values(trial.params),
    }


def _write_csv(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text_atomically(path, text.getvalue())
