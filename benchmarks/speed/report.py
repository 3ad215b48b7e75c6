"""Tables and the figure of `results/speed/`, from `speed.csv` alone."""

import math
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from benchmarks import style
from benchmarks.atomic import write_text_atomically
from benchmarks.figures.registry import save
from benchmarks.speed.rows import PHASES
from benchmarks.tables import FEATURED

CONTENDERS = ("suite", "plain")

REFERENCE = {"sensors": 207, "window": 24, "network": ""}
"""METR-LA's sensors and the papers' window and sizes: what the first table is about."""

STEM = "cost_against_sensors"

HEADER = "header.md"
"""Beside this module: how the report begins, with places for facts of the machine."""


def write_report(folder: Path, rows: pd.DataFrame) -> Path:
    """Writes `report.md` and the figure, and returns the report's path."""
    order = ["later", "method", "batch", "sensors", "window", "network"]
    rows = rows.assign(later=rows["method"] != FEATURED).sort_values(order, kind="stable")
    rows = rows.assign(on=rows["processor"].map(letters(rows["processor"].dropna())))
    done = rows[rows["status"] == "done"]
    parts = [_header(done)]
    reference = _where(done, **REFERENCE)
    if len(reference):
        parts += ["## At METR-LA size", *_table(reference)]
    for method in dict.fromkeys(rows["method"]):
        parts += [f"## {method}", *_table(_where(done, method=method)), *_lost(rows, method)]
    sweep = done[done["batch"] == 1]
    if sweep["sensors"].nunique() > 1:
        _draw(folder, sweep)
        about = (
            "Batch 1. Solid: the suite; dashed: the plain formulation, as far as it fits into "
            "memory. Both axes are logarithmic: parallel to the dotted line means proportional to "
            "the number of sensors. Points may be from different processors: the tables say which."
        )
        parts += ["## Cost against sensors", f"![{about}](figures/{STEM}.png)", about]
    notes = folder / "notes.md"
    if notes.exists():
        parts.append(notes.read_text(encoding="utf-8").strip())
    path = folder / "report.md"
    write_text_atomically(path, "\n\n".join(parts) + "\n")
    return path


def _header(done: pd.DataFrame) -> str:
    facts = {
        name: ", ".join(sorted(map(str, done[column].unique()))) or "nothing yet"
        for name, column in (
            ("repeats", "repeats"), ("torch", "torch_version"), ("commit", "git_commit"),
        )
    }  # fmt: skip
    machines = letters(done["processor"])
    facts["processor"] = ", ".join(f"{letter} = {name}" for name, letter in machines.items())
    threads = ", ".join(f"{count:g}" for count in sorted(done["threads"].dropna().unique()))
    days = sorted({str(when)[:10] for when in done["measured"]})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""
    text = (Path(__file__).parent / HEADER).read_text(encoding="utf-8").strip()
    return text.format(**facts, threads=threads, when=when)


def letters(processors: "pd.Series[str]") -> dict[str, str]:
    """A letter for each processor, in the order of their names."""
    return dict(zip(sorted(set(processors)), ascii_uppercase, strict=False))


def _where(rows: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def _table(done: pd.DataFrame) -> list[str]:
    """A line for each case: times, ratios, memory and rate."""
    head = (
        "| case | on | step (s) | plain ÷ suite | inference (s) | plain ÷ suite | memory (MB) "
        "| of plain | step GFLOP/s |"
    )
    lines = [head, "|---|---|" + "--:|" * 7]
    for case, rows in done.groupby("case", sort=False):
        by: dict[Any, Any] = rows.set_index("contender").to_dict("index")
        suite = by["suite"]
        cells = [str(case), str(suite["on"])]
        for phase in PHASES:
            seconds = f"{phase}_seconds"
            cells.append(f"{suite[seconds]:.3g}")
            cells.append(f"{by['plain'][seconds] / suite[seconds]:.2f}" if "plain" in by else "–")
        memory, plain = (by.get(name, {}).get("peak_memory_mb", math.nan) for name in CONTENDERS)
        rate = suite["train_gflops"]
        cells.append(_number(memory, "{:,.0f}"))
        cells.append(_number(memory / plain, "{:.0%}"))
        cells.append(_number(rate, f"{{:.0f}} ({rate / suite['matmul_gflops']:.0%})"))
        lines.append("| " + " | ".join(cells) + " |")
    return ["\n".join(lines)]


def _number(value: float, form: str) -> str:
    """A number, or a dash where none was measured."""
    return "–" if math.isnan(value) else form.format(value)


def _lost(rows: pd.DataFrame, method: str) -> Iterator[str]:
    """What could not be measured, and why."""
    lost = rows[(rows["method"] == method) & (rows["reason"] != "")]
    for row in lost.itertuples():
        yield f"- {row.case}, {row.contender}: {row.status}: {row.reason}"


def _draw(folder: Path, sweep: pd.DataFrame) -> None:
    """Seconds of a training step and peak memory against the number of sensors."""
    with style.context():
        drawn, axes = style.grid(2, 3.2)
        methods = list(dict.fromkeys(sweep["method"]))
        for ax, column, label in (
            (axes[0], "train_seconds", "training step (s)"),
            (axes[1], "peak_memory_mb", "peak memory of training (MB)"),
        ):
            for method in methods:
                _lines(ax, sweep[sweep["method"] == method], column)
            style.log_axis(ax, "x", sweep["sensors"].astype(float))
            ax.xaxis.set_major_locator(FixedLocator(sorted(sweep["sensors"].unique())))
            style.log_axis(ax, "y", sweep[column].dropna())
            _proportional(ax)
            ax.set_xlabel("sensors")
            ax.set_ylabel(label)
        _legend(drawn, methods)
        save(drawn, folder / "figures", STEM)


def _lines(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    look = style.looks([rows["method"].iloc[0]])[rows["method"].iloc[0]]
    for contender, line in zip(CONTENDERS, ("-", "--"), strict=True):
        points = rows[rows["contender"] == contender].sort_values("sensors")
        ax.plot(
            points["sensors"], points[column], line, color=look.color, marker=look.marker,
            fillstyle="full" if contender == "suite" else "none",
        )  # fmt: skip


def _proportional(ax: Axes) -> None:
    """A dotted line along which the cost grows as the number of sensors does."""
    (left, right), (low, _) = ax.get_xlim(), ax.get_ylim()
    limits = ax.get_ylim()
    ax.plot([left, right], [low, low * right / left], ":", color=style.MUTED, linewidth=0.8)
    ax.set_ylim(limits)


def _legend(drawn: Figure, methods: list[str]) -> None:
    looks = style.looks(methods)
    handles = [
        Line2D([], [], color=looks[method].color, marker=looks[method].marker) for method in methods
    ]
    handles += [Line2D([], [], color=style.INK, linestyle="--")]
    drawn.legend(handles, [*methods, "plain formulation"], loc="outside lower center", ncols=4)
