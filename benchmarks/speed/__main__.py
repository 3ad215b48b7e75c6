"""Cost of every method: `python -m benchmarks.speed` measures and writes `results/speed/`."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.errors import InputError
from benchmarks.options import parse_options
from benchmarks.process import rest_waiting_threads

USAGE = """\
usage: python -m benchmarks.speed [methods=NAME,...] [results_dir=results] [repeats=5]
                                  [threads=N] [cases=FILE] [again=true]

Times training steps and inferences, side by side with a plain formulation of the same method where
the checkout has one (tests/oracles), takes their peak memory, and writes speed.csv, report.md and
figures/ into results_dir/speed. Cases that are in speed.csv are not measured again.

  methods      which of the methods in the file of cases (default: all)
  results_dir  where the experiments are (default: results)
  repeats      turns of each contender, at least 1; the median counts (default: 5)
  threads      of torch (default: its own choice, one for each core)
  cases        YAML file of methods and sizes (default: speed.yaml of the suite's conf/)
  again        true: measures again what is there; none: measures nothing, writes the report
"""
DEFAULTS = {
    "methods": "",
    "results_dir": "results",
    "repeats": "5",
    "threads": "",
    "cases": "",
    "again": "",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, with 2 after bad input, or with 3 if a case failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    rest_waiting_threads()
    try:
        sys.exit(run(parse(arguments)))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def parse(arguments: Iterable[str]) -> dict[str, str]:
    """Options from `key=value` words.

    Raises:
        InputError: an unknown key, or a value that is none of its choices.
    """
    options = parse_options(arguments, DEFAULTS)
    for key in ("repeats", "threads"):
        if options[key] and not (options[key].isdecimal() and int(options[key])):
            raise InputError(f"{key}={options[key]} must be a whole number above 0")
    if options["again"] not in ("", "true", "none"):
        raise InputError(f"again={options['again']} is unknown; choose from true, none")
    return options


def run(options: dict[str, str]) -> int:
    """Measures what is missing, writes the report and returns the exit code."""
    from benchmarks.atomic import require_writable
    from benchmarks.paths import conf_dir
    from benchmarks.speed.cases import read_cases
    from benchmarks.speed.report import write_report
    from benchmarks.speed.rows import measure_case, read_rows, write_rows

    cases = read_cases(Path(options["cases"]) if options["cases"] else conf_dir() / "speed.yaml")
    known = list(dict.fromkeys(case.method for case in cases))
    methods = options["methods"].split(",") if options["methods"] else known
    unknown = [method for method in methods if method not in known]
    if unknown:
        raise InputError(f"methods={','.join(unknown)} not among the cases: {', '.join(known)}")
    folder = Path(options["results_dir"]) / "speed"
    require_writable(folder, "results_dir")
    rows = read_rows(folder)
    failed = False
    chosen = [case for case in cases if case.method in methods and options["again"] != "none"]
    for number, case in enumerate(chosen, start=1):
        if case.name in set(rows["case"]) and options["again"] != "true":
            continue
        sys.stderr.write(f"[{number}/{len(chosen)}] {case.name}\n")
        threads = int(options["threads"]) if options["threads"] else None
        measured = measure_case(case, int(options["repeats"]), threads)
        failed |= any(row["status"] == "failed" for row in measured)
        rows = write_rows(folder, rows, measured)
    sys.stdout.write(f"{write_report(folder, rows)}\n")
    return 3 if failed else 0


if __name__ == "__main__":
    main()
