"""Writes a study's files: what it is, its trials and their epochs, from which all else is made."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from benchmarks.atomic import write_text_atomically
from benchmarks.tune.fields import (
    CELL,
    COLUMNS,
    CURVE,
    DEFINITION,
    EPOCHS,
    FACTS,
    ORIGIN,
    REASON,
    REPLACES,
    SAMPLER,
    STUDY,
    TRIALS,
)  # fmt: skip
from benchmarks.tune.plan import Plan

STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

DIED = "its process died"
"""Reason of a failed trial that left none."""


def write_tables(study: optuna.Study, plan: Plan) -> None:
    """Writes the definition, all trials and all epochs into the study's folder."""
    trials = study.get_trials(deepcopy=False)
    definition = study.user_attrs[DEFINITION] | {"contour": list(plan.space.contour)}
    names = dict.fromkeys([*plan.space.keys, *plan.space.drawn])
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
    first = trial.values[0] if trial.values else None
    failed = trial.state == TrialState.FAIL
    return {
        "trial": trial.number,
        "state": STATES[trial.state],
        "reason": attributes.get(REASON, DIED if failed else ""),
        "origin": attributes.get(ORIGIN, SAMPLER),
        "repeats": attributes.get(REPLACES),
        "val_mae": min(attributes.get(CURVE, ()), default=first),
        **attributes.get(FACTS, {}),
        "key": attributes.get(CELL, ""),
        **trial.params,
        **plan.space.values(trial.params),
    }


def _write_csv(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow({column: _text(value) for column, value in line.items()})
    write_text_atomically(path, text.getvalue())


def _text(value: Any) -> str:
    """A value that can be read again; nothing where there is none."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)
