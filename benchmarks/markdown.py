"""Tables of results as Markdown, and texts and numbers that fit into them."""

import html
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from benchmarks.results import Results, mean_ranks
from benchmarks.tables import REFERENCE, against_reference, distinct, settings_of

MINUS, ABSENT = "\N{MINUS SIGN}", "\N{EN DASH}"


def mae_tables(results: Results) -> str:
    """MAE of all methods under the window convention, a captioned table per dataset."""
    parts = []
    for dataset, caption in results.captions.items():
        rows = results.of(dataset)
        if len(rows):
            unit = escape(rows["unit"].iloc[0])
            parts.append(f"MAE in {unit}, **window** convention. {escape(caption)}.")
            parts.append(score_table(results, dataset, "window_mae"))
    if not parts:
        return "No run has a score."
    return "\n\n".join(part for part in (*parts, footnote(results)) if part)


def score_table(results: Results, dataset: str, metric: str, scale: float = 1.0) -> str:
    """Mean and standard deviation of a metric: methods by mean rank, settings across.

    The best is bold, the second underlined; where a method has no score, the table says why.
    """
    every = results.runs[results.runs["dataset"] == dataset]
    rows = results.of(dataset)
    scored = (scale * rows[metric]).groupby([rows["model"], rows["setting"]])
    mean, sd, count = (part.unstack() for part in (scored.mean(), scored.std(), scored.count()))
    places = mean.rank(method="min").where(mean.notna().sum() > 1, axis=1)
    ranks = mean_ranks(mean)
    decimals = _decimals(float(np.nanmin(mean.to_numpy(), initial=np.inf)))
    settings = settings_of(every)
    lines = [["method", *settings, "mean rank", "runs"]]
    for model in [*ranks.index, *(m for m in results.labels if m not in ranks.index)]:
        if model not in set(every["model"]):
            continue
        cells = []
        for setting in settings:
            if model in ranks.index and setting in mean and count.loc[model, setting] > 0:
                text = f"{mean.loc[model, setting]:.{decimals}f}"
                if count.loc[model, setting] > 1:
                    text += f" ± {sd.loc[model, setting]:.{decimals}f}"
                cells.append(_marked(text, places.loc[model, setting]))
            else:
                cells.append(_absent(every, model, setting))
        runs = count.loc[model].dropna() if model in count.index else []
        rank = f"{ranks.loc[model, 'rank']:.2f}" if model in ranks.index else ABSENT
        lines.append([method(results, model), *cells, rank, _range(list(runs))])
    return markdown(lines)


def difference_table(results: Results, dataset: str) -> str:
    """Error against linear interpolation's, in per cent of it; empty where it was not run."""
    relative = against_reference(results.of(dataset))
    shares = relative.pivot_table(index="model", columns="setting", values="relative")
    others = [model for model in mean_ranks(shares).index if model != REFERENCE]
    settings = [setting for setting in settings_of(results.of(dataset)) if setting in shares]
    lines = [["method", *settings]]
    for model in others:
        cells = [number(100 * shares.loc[model, setting], "+.1f") for setting in settings]
        lines.append([method(results, model), *cells])
    return markdown(lines) if others else ""


def method(results: Results, model: str) -> str:
    """A method's name, with a dagger if it sees more than a window."""
    in_sample = results.configurations.get(model, {}).get("in_sample")
    return escape(results.labels[model]) + (" †" if in_sample else "")


def footnote(results: Results) -> str:
    """What the dagger means; empty where no method has one."""
    if not any(found.get("in_sample") for found in results.configurations.values()):
        return ""
    windows = "- or ".join(distinct(results.runs["window"]))
    return (
        "† Closed-form methods work on the whole series at once, so they also see visible readings "
        f"outside the {windows}-step window that the learned methods see."
    )


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its header and whose first column is text."""
    rule = [":--"] + ["--:"] * (len(lines[0]) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))


def escape(value: object) -> str:
    """Text that Markdown shows as it is, also in a table."""
    plain = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", plain)


def number(value: float | int, form: str = "") -> str:
    """A number, to three digits if `form` says nothing else, or a dash where there is none."""
    if value != value:
        return ABSENT
    if not form and 0 < abs(value) < 0.001:
        return "&lt;0.001"
    return f"{value:{form or ('.3g' if abs(value) < 100 else ',.0f')}}".replace("-", MINUS)


def _decimals(smallest: float) -> int:
    """Decimals that leave the smallest number of a table three digits, and two at the least."""
    if not 0 < smallest < math.inf:
        return 2
    return min(max(2, 2 - math.floor(math.log10(smallest))), 6)


def _marked(text: str, place: float) -> str:
    return {1: f"**{text}**", 2: f"<u>{text}</u>"}.get(int(place) if place == place else 0, text)


def _absent(every: pd.DataFrame, model: str, setting: str) -> str:
    """Why a method has no score: the status of its rows, or a dash if there are none."""
    rows = every[(every["model"] == model) & (every["setting"] == setting)]
    statuses = sorted(set(rows["status"]))
    return ", ".join(statuses).replace("_", " ").replace("done", "no score") or ABSENT


def _range(counts: Iterable[float | int]) -> str:
    found = sorted({int(count) for count in counts})
    return f"{found[0]}" + (f"\N{EN DASH}{found[-1]}" if len(found) > 1 else "") if found else "0"
