"""What is done, running, failed and missing: `python -m benchmarks.status experiment=NAME`."""

import sys
from collections.abc import Sequence

from benchmarks.errors import InputError

USAGE = """\
usage: python -m benchmarks.status experiment=NAME [KEY=VALUE ...]

Shows how far a sweep is: cells that are done, running, failed (with the reasons) and missing, the
time spent and an estimate of the time left. Takes what `python -m benchmarks.run -m` was given.
Runs nothing, and can be called while the sweep runs.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0 or, after one line that says what was wrong, with 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(USAGE)
        return
    from hydra.errors import HydraException

    try:
        from benchmarks.plan import kept_plan
        from benchmarks.progress import look, report

        given = [argument for argument in arguments if argument not in ("-m", "--multirun")]
        plan = kept_plan(["-m", *given])
        sys.stdout.write(report(plan, look(plan)))
    except (InputError, HydraException) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
