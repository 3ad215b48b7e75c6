"""A study's report, `study.md`, from its files alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import style
from benchmarks.atomic import require_writable, write_text_atomically
from benchmarks.figures.registry import delete_others, save
from benchmarks.markdown import ABSENT, escape, markdown, number
from benchmarks.tune.figures import (
    SECOND_LABEL,
    Drawn,
    history,
    importance,
    learning_curves,
    pareto,
    short,
)
from benchmarks.tune.importances import importances
from benchmarks.tune.maps import contour, parallel
from benchmarks.tune.records import Records
from benchmarks.tune.tuned import stem

REPORT, NOTES = "study.md", "notes.md"

SHOWN = 10
"""Trials in the table of the best."""

PRUNERS = {
    "hyperband": "Hyperband gives up trials that are behind others at the same epoch",
    "median": "a trial is given up when it is behind the median of others at the same epoch",
    "none": "no trial is given up early",
}


def write_report(records: Records) -> Path:
    """Draws the figures, writes the report and returns its path."""
    require_writable(records.folder, "results_dir")
    shares = importances(records) if records.done else {}
    parts = [_header(records), _result(records), _best_trials(records)]
    if records.second and records.done:
        parts.append(_front(records))
    stems = []
    for drawn in _draw(records, shares):
        stems.append(drawn.stem)
        image = f"![{drawn.title}](figures/{drawn.stem}.png)"
        parts += [f"## {drawn.title}", image, drawn.about]
    delete_others(records.folder, stems)
    parts.append(_failures(records))
    notes = records.folder / NOTES
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    parts.append(_again(records))
    path = records.folder / REPORT
    write_text_atomically(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


def _draw(records: Records, shares: Mapping[str, float]) -> Iterator[Drawn]:
    """All figures that the study has something for."""
    makers: Sequence[Callable[[], Drawn | None]] = (
        lambda: history(records),
        lambda: learning_curves(records),
        lambda: importance(records, shares),
        lambda: contour(records, shares),
        lambda: parallel(records),
        lambda: pareto(records),
    )
    for make in makers if records.done else ():
        with style.context():
            drawn = make()
            if drawn is not None:
                save(drawn.figure, records.folder / "figures", drawn.stem)
                yield drawn


def _header(records: Records) -> str:
    definition = records.definition
    config = definition["config"]
    states = [trial["state"] for trial in records.counted]
    counts = ", ".join(
        f"{states.count(state)} {word}"
        for state, word in (
            ("done", "completed"), ("pruned", "given up early"), ("failed", "failed"),
            ("running", "still running"),
        )
        if states.count(state)
    )  # fmt: skip
    second = f" and {SECOND_LABEL[records.second]}" if records.second else ""
    epochs = sum(trial["epochs"] or 0 for trial in records.counted)
    seconds = sum(trial["train_seconds"] or 0 for trial in records.counted)
    lines = [
        f"# Tuning of {config['model']['label']}: {config['dataset']['title']}",
        f"{len(records.counted)} trials ({counts}), each of at most {definition['budget']}, "
        f"{epochs} epochs and {seconds / 60:.0f} minutes of training in all. "
        f"Hidden: {escape(records.hidden)} (protocol {config['protocol']}, mask seed "
        f"{config['mask_seed']}); windows of {config['window']} steps, seed {config['seed']}.",
        f"The sampler is TPE; {PRUNERS[definition['pruner']]}. What is minimised is the validation "
        f"MAE{second}: the best over a trial's epochs on every "
        f"{_ordinal(config['trainer']['validation_stride'])}validation window. **No test window "
        "was predicted**, and hidden readings of the test and training parts reach nothing.",
    ]
    return "\n\n".join(lines)


def _ordinal(stride: int) -> str:
    return "" if stride == 1 else f"{stride}th "


def _result(records: Records) -> str:
    """The best configuration beside the default one."""
    if not records.done:
        return "No trial was completed."
    best, default = records.best, records.default
    unit = escape(records.definition["config"]["dataset"]["unit"])
    rows: list[Sequence[str]] = [["", "default", f"best (trial {best['trial']})"]]
    columns: list[Mapping[str, Any] | None] = [default, best]
    rows.append([f"validation MAE ({unit})", *(_cell(trial, "val_mae") for trial in columns)])
    for key in records.space.keys:
        values = [ABSENT if trial is None else records.values(trial)[key] for trial in columns]
        rows.append([f"`{short(key)}`", *map(_value, values)])
    for name, label in (("n_params", "parameters"), ("seconds_per_step", "training step (s)")):
        rows.append([label, *(_cell(trial, name) for trial in columns)])
    parts = ["## Result", markdown(rows)]
    if default is None:
        parts.append("The default configuration was not completed in this study.")
    elif default is best:
        parts.append("No trial was better than the default configuration.")
    else:
        gain = 1 - best["val_mae"] / default["val_mae"]
        parts.append(
            f"The best trial's validation MAE is {gain:.1%} below that of the default "
            "configuration under the same budget. It is the best of many on the same windows, so "
            "that a part of the difference is luck: only the test tells how much."
        )
    parts.append(
        f"`model=tuned/{stem(records)}` is the best configuration, and "
        f"`model={records.definition['choice']}` the default."
    )
    return "\n\n".join(parts)


def _best_trials(records: Records) -> str:
    if not records.done:
        return ""
    shown = records.done[:SHOWN]
    title = "## Best trials" if len(records.done) > SHOWN else "## Completed trials"
    return f"{title}\n\n{_trial_table(records, shown)}"


def _front(records: Records) -> str:
    return f"## Pareto front\n\n{_trial_table(records, records.front)}"


def _trial_table(records: Records, trials: Sequence[Mapping[str, Any]]) -> str:
    keys = records.space.keys
    facts = ["val_mae", "epochs", "n_params", "seconds_per_step"]
    names = (f"`{short(key)}`" for key in keys)
    rows = [["trial", "val. MAE", "epochs", "parameters", "s a step", *names]]
    for trial in trials:
        values = records.values(trial)
        name = f"{trial['trial']}" + (" (default)" if trial is records.default else "")
        rows.append(
            [name, *(_cell(trial, fact) for fact in facts), *(_value(values[key]) for key in keys)]
        )
    return markdown(rows)


def _failures(records: Records) -> str:
    failed = [trial for trial in records.trials if trial["state"] == "failed"]
    if not failed:
        return ""
    counted = {trial["trial"] for trial in records.counted}
    lines = [
        f"- trial {trial['trial']}: {escape(trial['reason'])}"
        + ("" if trial["trial"] in counted else " (repeated)")
        for trial in failed
    ]
    return "## Failed trials\n\n" + "\n".join(lines)


def _again(records: Records) -> str:
    return (
        "## Files\n\n`trials.csv` has all trials, `epochs.csv` their errors after each epoch, "
        f"`study.yaml` what the study is. `python -m benchmarks.tune report study={records.name}` "
        "writes this report and the figures again, from these files alone."
    )


def _cell(trial: Mapping[str, Any] | None, name: str) -> str:
    value = None if trial is None else trial[name]
    if value is None:
        return ABSENT
    return f"{value:.2f}" if name == "val_mae" else number(value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, (int, float)) else escape(value)
