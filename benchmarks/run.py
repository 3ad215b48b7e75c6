"""Runs one cell, or with `-m` a sweep: `python -m benchmarks.run model=psan dataset=simulated`."""

import sys


def main() -> None:
    """Entry point; exits with 0 (all done), 1 or 2 (bad input), 3 (some cells failed) or 130."""
    from benchmarks.errors import InputError
    from benchmarks.process import rest_waiting_threads

    rest_waiting_threads()
    from hydra.errors import HydraException

    try:
        from benchmarks.launch import launch

        sys.exit(launch(sys.argv[1:]))
    except (InputError, HydraException) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from here\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
