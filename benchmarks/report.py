"""Report of an experiment: `python -m benchmarks.report experiment=NAME` writes `report.md`.

It reads the experiment's folder under `results/` and nothing else, so that a clean clone draws
every figure again.
"""

import html
import math
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.tables import Results

USAGE = """\
usage: python -m benchmarks.report experiment=NAME [results_dir=results] [figures=NAME,...]

Writes report.md and figures/ into results_dir/NAME, from the rows that are there.

  experiment   folder of the results
  results_dir  where the experiments are (default: results)
  figures      which figures to draw and show: names, all or none (default: all)
"""
DEFAULTS = {"experiment": "", "results_dir": "results", "figures": "all"}
TEMPLATE = "report.md.j2"
MINUS, ABSENT = "\N{MINUS SIGN}", "\N{EN DASH}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0 or, after one line that says what was wrong, with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    try:
        sys.stdout.write(f"{write_report(parse(arguments))}\n")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def parse(arguments: Iterable[str]) -> dict[str, str]:
    """Options from `key=value` words.

    Raises:
        InputError: an unknown key, or no experiment.
    """
    options = dict(DEFAULTS)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options:
            raise InputError(f"{argument!r} is unknown; give key=value with {', '.join(options)}")
        if not value:
            raise InputError(f"{argument!r} has no value; give {key}=VALUE")
        options[key] = value
    if not options["experiment"]:
        raise InputError("experiment=NAME is missing; --help says more")
    return options


def find_experiment(results_dir: Path, name: str) -> Path:
    """Folder of an experiment.

    Raises:
        InputError: it is not there; names those that are.
    """
    found = results_dir.iterdir() if results_dir.is_dir() else []
    present = sorted(path.name for path in found if path.is_dir())
    if name not in present:
        known = ", ".join(present) or "none"
        raise InputError(f"experiment={name} has no folder in {results_dir}; there are: {known}")
    return results_dir / name


def write_report(options: Mapping[str, str]) -> Path:
    """Draws the figures, writes `report.md` and returns its path.

    Raises:
        InputError: results that cannot be read, a folder that cannot be written, an unknown figure.
    """
    folder = find_experiment(Path(options["results_dir"]), options["experiment"])
    from benchmarks.atomic import require_writable, write_text_atomically
    from benchmarks.figures import FIGURES, draw
    from benchmarks.tables import read_results

    require_writable(folder, "results_dir")
    every: dict[str, list[str]] = {"all": list(FIGURES), "none": []}
    chosen = every.get(options["figures"], options["figures"].split(","))
    unknown = [name for name in chosen if name not in FIGURES]
    if unknown:
        valid = ", ".join([*FIGURES, *every])
        raise InputError(f"figures={','.join(unknown)} is unknown; choose from {valid}")
    results = read_results(folder)
    figures: dict[str, list[tuple[str, str]]] = {FIGURES[name].title: [] for name in chosen}
    for name, stem, about in draw(results, chosen):
        figures[FIGURES[name].title].append((stem, about))
    given = (f"{key}={options[key]}" for key in DEFAULTS if options[key] != DEFAULTS[key])
    command = shlex.join(["python", "-m", "benchmarks.report", *given])
    write_text_atomically(folder / "report.md", render(results, figures, command))
    return folder / "report.md"


def render(
    results: "Results", figures: Mapping[str, Sequence[tuple[str, str]]], command: str
) -> str:
    """The report as Markdown.

    Args:
        results: the experiment's rows.
        figures: stems of the files and what is to be seen, by title.
        command: what draws the report again.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from benchmarks import tables

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"text": escape, "number": number, "percent": tables.percent}
    return environment.get_template(TEMPLATE).render(
        results=results,
        tables=tables,
        method=method,
        score_table=score_table,
        difference_table=difference_table,
        figures=figures,
        report_command=command,
        sweep=sweep_command(results),
    )


def score_table(results: "Results", dataset: str, metric: str, scale: float = 1.0) -> str:
    """Mean and standard deviation of a metric: methods by mean rank, settings across.

    The best is bold, the second underlined; where a method has no score, the table says why.
    """
    import numpy as np

    from benchmarks.tables import mean_ranks, settings_of

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


def difference_table(results: "Results", dataset: str) -> str:
    """Error against linear interpolation's, in per cent of it; empty where it was not run."""
    from benchmarks.tables import REFERENCE, against_reference, mean_ranks, settings_of

    relative = against_reference(results.of(dataset))
    shares = relative.pivot_table(index="model", columns="setting", values="relative")
    others = [model for model in mean_ranks(shares).index if model != REFERENCE]
    settings = [setting for setting in settings_of(results.of(dataset)) if setting in shares]
    lines = [["method", *settings]]
    for model in others:
        cells = [number(100 * shares.loc[model, setting], "+.1f") for setting in settings]
        lines.append([method(results, model), *cells])
    return markdown(lines) if others else ""


def method(results: "Results", model: str) -> str:
    """A method's name, with a dagger if it sees more than a window."""
    in_sample = results.configurations.get(model, {}).get("in_sample")
    return escape(results.labels[model]) + (" †" if in_sample else "")


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


def _absent(every: "pd.DataFrame", model: str, setting: str) -> str:
    """Why a method has no score: the status of its rows, or a dash if there are none."""
    rows = every[(every["model"] == model) & (every["setting"] == setting)]
    statuses = sorted(set(rows["status"]))
    return ", ".join(statuses).replace("_", " ").replace("done", "no score") or ABSENT


def _range(counts: Iterable[float | int]) -> str:
    found = sorted({int(count) for count in counts})
    return f"{found[0]}" + (f"\N{EN DASH}{found[-1]}" if len(found) > 1 else "") if found else "0"


def sweep_command(results: "Results") -> tuple[str, bool]:
    """What runs the experiment's cells again, and whether it is a configured sweep."""
    from benchmarks.paths import conf_dir
    from benchmarks.tables import distinct

    name, runs = results.folder.name, results.runs
    if (conf_dir() / "experiment" / f"{name}.yaml").exists():
        return f"python -m benchmarks.run -m experiment={shlex.quote(name)}", True
    lines = []
    for pattern, rows in runs.groupby("pattern"):
        axes = {
            "dataset": rows["dataset"],
            "model": rows["model"],
            "mask.rate": rows["rate"],
            "seed": rows["seed"],
            "window": rows["window"],
        }
        swept = [
            f"{axis}={','.join(distinct(values))}"
            for axis, values in axes.items()
            if values.notna().any()
        ]
        words = ["python", "-m", "benchmarks.run", "-m", f"name={name}", f"mask={pattern}", *swept]
        lines.append(shlex.join(words))
    return "\n".join(lines), False


if __name__ == "__main__":
    main()
