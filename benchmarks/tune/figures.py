"""Figures of a study, drawn from its files alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from benchmarks import style
from benchmarks.tune.records import Records

BEST, DEFAULT, DONE, PRUNED = style.VERMILION, style.BLACK, style.BLUE, style.PALE
"""Colours of the best trial, the default, other completed trials and those that were given up."""


@dataclass(frozen=True)
class Drawn:
    """A figure, its file's stem, its heading and what is to be seen."""

    stem: str
    title: str
    figure: Figure
    about: str


def single(height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one panel."""
    drawn = Figure(figsize=(0.8 * style.WIDTH, height), layout="constrained")
    return drawn, drawn.subplots()


def short(key: str) -> str:
    """A key of the configuration as a figure names it."""
    return key.rpartition(".")[2]


def error_label(records: Records) -> str:
    """Label of an axis of validation errors."""
    return f"validation MAE ({records.definition['config']['dataset']['unit']})"


def history(records: Records) -> Drawn:
    """Validation error of each trial, and the best so far."""
    drawn, ax = single()
    looks = {"pruned": ("x", PRUNED, "given up early"), "done": ("o", DONE, "completed")}
    shown = [trial for trial in records.counted if trial["val_mae"] is not None]
    for state, (marker, color, label) in looks.items():
        points = [trial for trial in shown if trial["state"] == state]
        ax.plot(
            [trial["trial"] for trial in points], [trial["val_mae"] for trial in points],
            marker, color=color, label=label, markersize=4,
        )  # fmt: skip
    best: list[tuple[int, float]] = []
    for trial in (trial for trial in shown if trial["state"] == "done"):
        if not best or trial["val_mae"] < best[-1][1]:
            best.append((trial["trial"], trial["val_mae"]))
    ends = [*best, (max(trial["trial"] for trial in shown), best[-1][1])]
    ax.step(*zip(*ends, strict=True), where="post", color=BEST, label="best so far")
    if records.default is not None:
        ax.plot(
            records.default["trial"], records.default["val_mae"], "D", color=DEFAULT,
            label="default configuration", markersize=5,
        )  # fmt: skip
    style.log_axis(ax, "y", [trial["val_mae"] for trial in shown])
    ax.set(xlabel="trial", ylabel=error_label(records))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    drawn.legend(loc="outside lower center", ncols=4)
    about = (
        "Best validation MAE of each trial in the order in which they were begun. A cross is the "
        "best error of a trial until it was given up, not what it would have come to."
    )
    return Drawn("history", "History", drawn, about)


def learning_curves(records: Records) -> Drawn | None:
    """Validation error after each epoch, with the trials that were given up."""
    if not records.epochs:
        return None
    drawn, ax = single()
    best = records.best["trial"]
    default = records.default["trial"] if records.default is not None else None
    for trial in records.counted:
        curve = records.epochs.get(trial["trial"], ())
        if not curve:
            continue
        special = {best: (BEST, 2.0, 4), default: (DEFAULT, 1.6, 5)}.get(trial["trial"])
        given_up = trial["state"] == "pruned"
        color, width, order = special or ((PRUNED, 0.8, 2) if given_up else (DONE, 0.8, 3))
        epochs = range(1, len(curve) + 1)
        ax.plot(epochs, curve, color=color, linewidth=width, zorder=order)
        if given_up:
            ax.plot(len(curve), curve[-1], "x", color=style.GREY, markersize=4, zorder=order)
    style.log_axis(ax, "y", [value for curve in records.epochs.values() for value in curve])
    batches = records.definition["config"]["trainer"]["batches_per_epoch"]
    ax.set(xlabel=f"epoch (of {batches} batches)", ylabel=error_label(records))
    ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    handles = [
        Line2D([], [], color=BEST, linewidth=2, label="best"),
        Line2D([], [], color=DEFAULT, linewidth=1.6, label="default configuration"),
        Line2D([], [], color=DONE, linewidth=0.8, label="completed"),
        Line2D([], [], color=PRUNED, marker="x", markeredgecolor=style.GREY, label="given up"),
    ]
    if default is None or default == best:
        del handles[1]
    drawn.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    about = (
        "Validation MAE after each epoch of every trial. A cross is where the pruner gave a trial "
        "up. Lines that still fall at their end would go on falling with a larger budget."
    )
    return Drawn("learning_curves", "Learning curves", drawn, about)


def importance(records: Records, shares: Mapping[str, float]) -> Drawn | None:
    """Share of the error's variance that each parameter explains."""
    if not shares:
        return None
    drawn, ax = single(0.6 + 0.28 * len(shares))
    names = list(shares)[::-1]
    ax.barh([short(name) for name in names], [100 * shares[name] for name in names], color=DONE)
    for place, name in enumerate(names):
        ax.annotate(
            f"{shares[name]:.0%}", (100 * shares[name], place), xytext=(3, 0),
            textcoords="offset points", va="center", color=style.INK,
        )  # fmt: skip
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("share of the variance of the validation MAE (%)")
    ax.set_xlim(0, 115 * max(shares.values()))
    about = (
        f"fANOVA over {len(records.comparable())} trials{at_epoch(records)}. It says what the "
        "error varied with over the whole search space, bad corners included, not what is best."
    )
    return Drawn("importance", "What matters", drawn, about)


def pareto(records: Records) -> Drawn | None:
    """The two objectives against each other."""
    if not records.second:
        return None
    drawn, ax = single()
    front = records.front
    points = [(float(trial[records.second]), trial["val_mae"]) for trial in records.done]
    ax.plot(*zip(*points, strict=True), "o", color=DONE, label="trial", markersize=4)
    ends = [(trial[records.second], trial["val_mae"]) for trial in front]
    ax.step(
        *zip(*ends, strict=True),
        where="pre",
        color=BEST,
        marker="o",
        label="Pareto front",
        zorder=3,
    )
    if records.default is not None:
        ax.plot(
            records.default[records.second], records.default["val_mae"], "D", color=DEFAULT,
            label="default configuration", zorder=4,
        )  # fmt: skip
    for which, values in (("x", [x for x, _ in points]), ("y", [y for _, y in points])):
        style.log_axis(ax, which, values)
    ax.set(xlabel=SECOND_LABEL[records.second], ylabel=error_label(records))
    drawn.legend(loc="outside lower center", ncols=3)
    about = "No trial is better than one of the front in both: lower and further left is better."
    return Drawn("pareto", "Error against cost", drawn, about)


SECOND_LABEL = {"seconds_per_step": "training step (s)", "n_params": "trained parameters"}


def at_epoch(records: Records) -> str:
    """At which epoch trials are compared, in words."""
    if not records.common_epoch:
        return ""
    return f", by their best error in the first {records.common_epoch} epochs"
