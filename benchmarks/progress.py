"""How far a sweep is: what its cells have come to, the time they took and what is left."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cell import describe
from benchmarks.claims import Claim, holder
from benchmarks.plan import Plan, PlannedCell
from benchmarks.rows import GOOD, RUNNING, STATUSES, cell_folder, read_row

BAD = tuple(status for status in STATUSES if status not in GOOD)
MISSING, REFUSED = "missing", "refused"

ORDER = (*GOOD, RUNNING, *BAD, REFUSED, MISSING)

ALIKE = (("model", "dataset", "budget"), ("model", "budget"), ("model", "dataset"), ("model",))
"""Columns in which a finished cell must agree to tell how long another takes, the best first."""


@dataclass(frozen=True)
class State:
    """A planned cell, its row if it has one, and who is at it."""

    planned: PlannedCell
    folder: Path
    row: Mapping[str, Any] | None
    claim: Claim | None

    @property
    def status(self) -> str:
        """The row's status, or "running", "missing" or "refused"."""
        if self.planned.refused:
            return REFUSED
        if self.claim is not None and not (self.row and self.row["status"] in GOOD):
            return RUNNING
        return str(self.row["status"]) if self.row else MISSING

    @property
    def seconds(self) -> float:
        """Time that went into the finished cell, earlier launches' training included."""
        row = self.row or {}
        return max(row.get("seconds") or 0.0, row.get("train_seconds") or 0.0)

    @property
    def epochs(self) -> int:
        """Epochs that are trained so far, by the cell's history."""
        try:
            return max(0, (self.folder / "history.csv").read_text().count("\n") - 1)
        except FileNotFoundError:
            return 0


def look(plan: Plan) -> list[State]:
    """The state of each cell of a plan.

    Raises:
        InputError: a row that is damaged.
    """
    return [_state(plan.folder, cell) for cell in plan.cells]


def _state(experiment: Path, cell: PlannedCell) -> State:
    folder = cell_folder(experiment, cell.key)
    if cell.refused:
        return State(cell, folder, None, None)
    return State(cell, folder, read_row(experiment, cell.key), holder(folder))


def report(plan: Plan, states: Sequence[State]) -> str:
    """What is done, running, failed and missing, and the times, as text."""
    counts = Counter(state.status for state in states)
    lines = [f"{len(states)} cells of {plan.folder}"]
    lines += [f"  {status:<14}{counts[status]:>5}" for status in ORDER if counts[status]]
    lines += ["", *_times(states)]
    running = [state for state in states if state.status == RUNNING]
    if running:
        lines += ["", "running:", *(f"  {_running(state)}" for state in running)]
    for status in (*BAD, REFUSED):
        found = [state for state in states if state.status == status]
        if found:
            lines += ["", f"{status}:", *(f"  {line}" for line in _reasons(found))]
    missing = [state for state in states if state.status == MISSING]
    if missing:
        lines += ["", "missing:", *(f"  {line}" for line in _by_setting(missing))]
    return "\n".join(lines) + "\n"


def preview(plan: Plan, states: Sequence[State]) -> str:
    """What a launch would do, as text: each cell, what it would skip, and the cost."""
    lines = []
    for state in states:
        if state.status == REFUSED:
            what = f"{' '.join(state.planned.overrides)}: {state.planned.refused}"
        else:
            what = f"{describe(state.planned.identity)} ({state.planned.key})"
        lines.append(f"  {_intention(state):<16}{what}")
    return "\n".join([f"{len(states)} cells of {plan.folder}", *lines, "", *_times(states)]) + "\n"


def would_run(state: State) -> bool:
    """Whether a launch runs the cell: it lacks a row, was skipped, or failed and may be retried."""
    if state.status in BAD:
        return state.planned.retry_failed > 0
    return state.status in (MISSING, "skipped")


def _intention(state: State) -> str:
    if would_run(state):
        return "would run" if state.status == MISSING else "would run again"
    return f"left as it is: {state.status}" if state.status in BAD else state.status


def _times(states: Sequence[State]) -> Iterator[str]:
    """Time spent and an estimate of the time left, from cells that are like those to come."""
    spent = sum((state.seconds for state in states), start=0.0)
    yield f"time spent: {duration(spent)}"
    open_cells = [state for state in states if would_run(state) or state.status == RUNNING]
    if not open_cells:
        return
    known = [state for state in states if state.status == "done" and state.seconds > 0]
    estimates = [_left(state, known) for state in open_cells]
    found = [seconds for seconds in estimates if seconds is not None]
    unknown = len(estimates) - len(found)
    workers = max(1, sum(state.status == RUNNING for state in states))
    text = f"time left: about {duration(sum(found) / workers)}" if found else "time left: unknown"
    if found:
        text += f", {workers} at a time, if cells take as long as those of their method so far"
    if unknown and found:
        text += f"; without {unknown} of methods that have no finished cell yet"
    yield text


def _left(state: State, known: Sequence[State]) -> float | None:
    """Seconds that a cell may still take."""
    whole = estimate(state.planned.identity, known)
    if whole is None or state.claim is None:
        return whole
    return max(0.0, whole - (time.time() - state.claim.since))


def estimate(identity: Mapping[str, Any], known: Sequence[State]) -> float | None:
    """Seconds that a cell may take: the median of the finished cells that are most like it."""
    for columns in ALIKE:
        alike = [
            state.seconds
            for state in known
            if state.row and all(state.row[name] == identity[name] for name in columns)
        ]
        if alike:
            return median(alike)
    return None


def duration(seconds: float) -> str:
    """A time in the two largest of days, hours, minutes and seconds that it has."""
    whole = round(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _running(state: State) -> str:
    claim = state.claim
    assert claim is not None
    epochs = f", {state.epochs} epochs trained" if state.epochs else ""
    return (
        f"{describe(state.planned.identity)}: process {claim.pid} on {claim.host}, for "
        f"{duration(time.time() - claim.since)}{epochs}"
    )


def _reasons(states: Sequence[State]) -> Iterator[str]:
    for state in states:
        if state.row is None:
            yield f"{' '.join(state.planned.overrides)}: {state.planned.refused}"
        else:
            attempts = int(state.row.get("attempts") or 1)
            times = f" ({attempts} attempts)" if attempts > 1 else ""
            yield f"{describe(state.row)}: {state.row['reason']}{times}"


def _by_setting(states: Sequence[State]) -> Iterator[str]:
    """Methods that lack the same settings share a line."""
    models: dict[str, list[str]] = {}
    for state in states:
        identity = state.planned.identity
        setting = describe(identity).removeprefix(f"{identity['model']} on ")
        models.setdefault(setting, []).append(identity["model"])
    for setting, names in models.items():
        yield f"{setting}: {', '.join(dict.fromkeys(names))}"
