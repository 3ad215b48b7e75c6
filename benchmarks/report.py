"""Report of an experiment: `python -m benchmarks.report experiment=NAME` writes `report.md`.

It reads the experiment's folder under `results/` and nothing else, so that a clean clone draws
every figure again.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import InputError
from benchmarks.options import parse_options

if TYPE_CHECKING:
    from benchmarks.results import Results

USAGE = """\
usage: python -m benchmarks.report experiment=NAME [results_dir=results] [figures=NAME,...]
       python -m benchmarks.report experiment=NAME [results_dir=results] table=mae

Writes report.md and figures/ into results_dir/NAME, from the rows that are there.

  experiment   folder of the results
  results_dir  where the experiments are (default: results)
  figures      which figures to draw and show: names, all or none (default: all);
               all also deletes the PNG and SVG files of figures/ that it did not draw
  table        mae: prints the table of errors alone, as Markdown, instead of a report
"""
DEFAULTS = {"experiment": "", "results_dir": "results", "figures": "all", "table": ""}
TEMPLATE = "report.md.j2"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0 or, after one line that says what was wrong, with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    try:
        options = parse(arguments)
        sys.stdout.write(f"{(read_table if options['table'] else write_report)(options)}\n")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def parse(arguments: Iterable[str]) -> dict[str, str]:
    """Options from `key=value` words.

    Raises:
        InputError: an unknown key or table, options that exclude each other, or no experiment.
    """
    options = parse_options(arguments, DEFAULTS)
    if not options["experiment"]:
        raise InputError("experiment=NAME is missing; --help says more")
    if options["table"] not in ("", "mae"):
        raise InputError(f"table={options['table']} is unknown; choose from mae")
    if options["table"] and options["figures"] != DEFAULTS["figures"]:
        raise InputError(f"table={options['table']} draws no figures; leave figures= out")
    return options


def find_experiment(results_dir: Path, name: str) -> Path:
    """Folder of an experiment.

    Raises:
        InputError: it is not there; names those that are. Or it is that of `benchmarks.speed`.
    """
    found = results_dir.iterdir() if results_dir.is_dir() else []
    present = sorted(path.name for path in found if path.is_dir())
    if name not in present:
        known = ", ".join(present) or "none"
        raise InputError(f"experiment={name} has no folder in {results_dir}; there are: {known}")
    if (results_dir / name / "speed.csv").exists():
        raise InputError(
            f"experiment={name} has no runs but costs; python -m benchmarks.speed again=none "
            "writes their report"
        )
    return results_dir / name


def read_table(options: Mapping[str, str]) -> str:
    """The errors of all methods as Markdown.

    Raises:
        InputError: results that cannot be read.
    """
    folder = find_experiment(Path(options["results_dir"]), options["experiment"])
    from benchmarks.markdown import mae_tables
    from benchmarks.results import read_results

    return mae_tables(read_results(folder))


def write_report(options: Mapping[str, str]) -> Path:
    """Draws the figures, writes `report.md` and returns its path.

    Figures of an earlier report go when all are drawn again.

    Raises:
        InputError: results that cannot be read, a folder that cannot be written, an unknown figure.
    """
    folder = find_experiment(Path(options["results_dir"]), options["experiment"])
    from benchmarks.atomic import require_writable, write_text_atomically
    from benchmarks.figures import FIGURES, delete_others, draw
    from benchmarks.results import read_results

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
    if options["figures"] == "all":
        delete_others(folder, [stem for drawn in figures.values() for stem, _ in drawn])
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

    from benchmarks import markdown, tables
    from benchmarks.results import percent

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "text": markdown.escape,
        "number": markdown.number,
        "percent": percent,
    }
    return environment.get_template(TEMPLATE).render(
        results=results,
        tables=tables,
        method=markdown.method,
        score_table=markdown.score_table,
        difference_table=markdown.difference_table,
        footnote=markdown.footnote(results),
        figures=figures,
        notes=_notes(results.folder),
        report_command=command,
        sweep=sweep_command(results),
    )


def _notes(folder: Path) -> str:
    """What somebody wrote about the experiment: `notes.md` in its folder, or nothing."""
    path = folder / "notes.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def sweep_command(results: "Results") -> tuple[str, bool]:
    """What runs the experiment's cells again, and whether it is a configured sweep."""
    from benchmarks.paths import conf_dir
    from benchmarks.tables import distinct

    name, runs = results.folder.name, results.runs
    if (conf_dir() / "experiment" / f"{name}.yaml").exists():
        return f"python -m benchmarks.run -m experiment={shlex.quote(name)}", True
    lines = []
    for (pattern, protocol), rows in runs.groupby(["pattern", "protocol"]):
        axes = {
            "dataset": rows["dataset"],
            "model": rows["model"].map(model_choice),
            "mask.rate": rows["rate"],
            "mask_seed": rows["mask_seed"],
            "seed": rows["seed"],
            "window": rows["window"],
        }
        swept = [
            f"{axis}={','.join(distinct(values))}"
            for axis, values in axes.items()
            if values.notna().any()
        ]
        words = ["python", "-m", "benchmarks.run", "-m", f"name={name}", f"mask={pattern}"]
        lines.append(shlex.join([*words, f"protocol={protocol}", *swept]))
    return "\n".join(lines), False


def model_choice(model: str) -> str:
    """What chooses a method on the command line: its YAML, which may lie in a folder."""
    from benchmarks.paths import conf_dir

    folder = conf_dir() / "model"
    files = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.yaml"))
    return {"_".join(file.parts): file.as_posix() for file in files}.get(model, model)


if __name__ == "__main__":
    main()
