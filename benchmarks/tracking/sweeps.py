"""What the run of a sweep says of its cells."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import rows
from benchmarks.cell import describe
from benchmarks.errors import InputError
from benchmarks.tracking.content import LONGEST_TAG, NOTE_TAG
from benchmarks.tracking.parents import Parent, open_experiment, open_parent
from benchmarks.tracking.store import check, connect, patiently, tolerated

if TYPE_CHECKING:
    from mlflow import MlflowClient


NEEDED = {"model", "dataset", "pattern", "rate", "seed", "status"}
"""Columns of a row that are told of."""


def end_sweep(tracking: Mapping[str, Any], experiment: Path) -> None:
    """Writes the state of a sweep's cells into its run. Should the store fail, that is said.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.

    Raises:
        InputError: an unknown kind of tracking.
    """
    check(tracking)
    with tolerated(f"the end of sweep {experiment.name}", experiment.name):
        client = connect(tracking)
        if client is not None:
            describe_sweep(client, open_experiment(client, experiment.name), experiment)


def describe_sweep(client: "MlflowClient", experiment_id: str, experiment: Path) -> None:
    """As `end_sweep`, with a store at hand."""
    from mlflow.entities import Metric, RunTag

    found = _readable_rows(experiment)
    if not found:  # a study's folder has none
        return
    parent = open_parent(client, experiment_id, Parent("sweep", experiment.name))
    now = int(time.time() * 1000)
    counts = Counter(f"cells/{row['status']}" for row in found)
    metrics = [Metric(name, float(counts[name]), now, 0) for name in _names(counts)]
    note = RunTag(NOTE_TAG, summary(experiment.name, found)[:LONGEST_TAG])
    patiently(client.log_batch, parent, metrics, tags=[note])
    patiently(client.set_terminated, parent, end_time=now)


def summary(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    """A sweep in a few lines of Markdown: how far it is, what is in it, and what failed."""
    counts = Counter(row["status"] for row in found)
    states = ", ".join(f"{counts[status]} {status}" for status in rows.STATUSES if counts[status])
    lines = [f"{len(found)} cells: {states}.", ""]
    for title, column in (("Methods", "model"), ("Datasets", "dataset"), ("Patterns", "pattern")):
        lines.append(f"* {title}: {', '.join(sorted({row[column] for row in found}))}")
    lines += ["", f"Tables and figures: `python -m benchmarks.report experiment={name}`"]
    problems = [row for row in found if row["status"] not in rows.GOOD]
    if problems:
        lines += ["", "Failed:", ""]
        lines += [f"* {describe(row)}: {row['status']}: {row['reason']}" for row in problems]
    return "\n".join(lines)


def _readable_rows(experiment: Path) -> list[dict[str, Any]]:
    """The rows of an experiment, but for damaged files, of which others complain."""
    found = []
    for path in sorted(experiment.glob("cells/*/row.json")):
        try:
            row = rows.read_row(experiment, path.parent.name)
        except InputError:
            continue
        if row is not None and row.keys() >= NEEDED:
            found.append(row)
    return found


def _names(counts: Iterable[str]) -> list[str]:
    """Of the counts to show: all that are not 0, and those that are so at the best."""
    return sorted({*counts, "cells/done", "cells/failed"})
