"""What is tracked: `python -m benchmarks.track sync experiment=NAME` sends rows into a store."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import InputError
from benchmarks.options import parse_options

USAGE = """\
usage: python -m benchmarks.track sync experiment=NAME [tracking.uri=URI] [results_dir=results]

sync sends the rows of results_dir/NAME to an MLflow store, as if they had been tracked while they
ran: for cells that ran without network, or while the store was away. A run that is there is left
as it is, one that is incomplete is completed, and one whose worker is gone is marked as killed.

  experiment    folder of the results
  tracking.uri  the store (default: the environment variable MLFLOW_TRACKING_URI, else
                sqlite:///mlflow.db)
  results_dir   where the experiments are (default: results)
"""
VERBS = ("sync",)
DEFAULTS = {"experiment": "", "tracking.uri": "", "results_dir": "results"}

SOME_FAILED = 3
"""Exit code when some rows could not be read and the others were sent."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, with 2 after bad input, or with 3 if a row could not be read."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    try:
        sys.exit(run(arguments))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def run(arguments: Sequence[str]) -> int:
    """Does what the verb says, tells what it did, and returns the exit code.

    Raises:
        InputError: an unknown verb or option, no such experiment, a store that fails.
    """
    verb, *words = arguments or [""]
    if verb not in VERBS:
        given = f"{verb!r} is unknown" if verb else "what to do is missing"
        raise InputError(f"{given}; choose from {', '.join(VERBS)}; --help says more")
    options = parse_options(words, DEFAULTS)
    if not options["experiment"]:
        raise InputError("experiment=NAME is missing; --help says more")
    from benchmarks.report import find_experiment

    folder = find_experiment(Path(options["results_dir"]), options["experiment"])
    uri = options["tracking.uri"] or default_uri()
    from benchmarks.tracking import sync

    done = sync({"kind": "mlflow", "uri": uri}, folder)
    sys.stdout.write(done.describe() + "\n")
    for problem in done.problems:
        sys.stderr.write(f"error: {problem}\n")
    return SOME_FAILED if done.problems else 0


def default_uri() -> str:
    """The store that runs are tracked in when nothing else is given: that of the configuration."""
    from omegaconf import OmegaConf

    from benchmarks.paths import conf_dir

    return str(OmegaConf.load(conf_dir() / "tracking/mlflow.yaml").uri)


if __name__ == "__main__":
    main()
