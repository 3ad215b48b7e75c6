"""Tunes a method: `python -m benchmarks.tune model=psan dataset=metr_la n_trials=50`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import InputError
from benchmarks.process import rest_waiting_threads

USAGE = """\
usage: python -m benchmarks.tune model=NAME dataset=NAME [n_trials=50] [KEY=VALUE ...]
       python -m benchmarks.tune study=NAME [KEY=VALUE ...]
       python -m benchmarks.tune report study=NAME [results_dir=results]

Trains a method with one configuration after the other, compares them by their error on the
validation windows, and writes the best as conf/model/tuned/<model>_<dataset>.yaml. No test window
is predicted. An interrupted study goes on with the same command. `report` writes study.md and
figures/ again, from trials.csv, epochs.csv and study.yaml in results_dir/tuning/NAME.

  model          the method; what is varied is in conf/tune/<model>.yaml
  study          name of the study (default: <model>_<dataset>); if conf/study/<name>.yaml exists,
                 its lines stand before the command line's
  n_trials       trials that the study has in the end, those of earlier launches included (50)
  n_workers      processes that run trials at the same time (1); cores are divided among them
  pruner         how trials are given up early: hyperband, median or none (hyperband)
  also_minimise  a second objective, seconds (of a training step) or parameters: no trial is given
                 up, and the report has the Pareto front
  storage        URL of a database for several machines, such as
                 postgresql://user@host/name (default: a file in the study's folder)
  write_to       configuration folder for the best values (default: the suite's own; for an
                 installed package --config-dir's, or conf)

All other keys and --config-dir are those of python -m benchmarks.run: dataset=, mask=, mask.rate=,
trainer.max_epochs=, trainer.batches_per_epoch=, seed=, tracking=none, results_dir=, …
Exit codes: 0 done, 2 bad input, 3 no trial could be completed, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 2 (bad input), 3 (no trial was completed) or 130 (interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    try:
        code = report(arguments[1:]) if arguments[:1] == ["report"] else tune(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command goes on from here\n")
        code = 130
    sys.exit(code)


def tune(arguments: Sequence[str]) -> int:
    """Runs a study, writes its files and returns the exit code."""
    from benchmarks.tune.options import parse

    options = parse(arguments)
    rest_waiting_threads()
    from hydra.errors import HydraException

    try:
        from benchmarks.tune.launch import launch

        return launch(options)
    except HydraException as error:
        raise InputError(str(error)) from error


def report(arguments: Sequence[str]) -> int:
    """Writes a study's report and figures again, and returns the exit code."""
    options = {"study": "", "results_dir": "results"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options or not value:
            raise InputError(f"{argument!r} is unknown; report takes {', '.join(options)}")
        options[key] = value
    folder = find_study(Path(options["results_dir"]), options["study"])
    from benchmarks.tune.records import read_records
    from benchmarks.tune.report import write_report

    sys.stdout.write(f"{write_report(read_records(folder))}\n")
    return 0


def find_study(results_dir: Path, name: str) -> Path:
    """Folder of a study.

    Raises:
        InputError: it is not there; names those that are.
    """
    known = sorted(path.parent.name for path in results_dir.glob("tuning/*/trials.csv"))
    if name not in known:
        raise InputError(
            f"study={name} has no trials in {results_dir / 'tuning'}; there are: "
            + (", ".join(known) or "none")
        )
    return results_dir / "tuning" / name


if __name__ == "__main__":
    main()
