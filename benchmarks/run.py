"""Runs one cell, or with `-m` a sweep: `python -m benchmarks.run model=psan dataset=simulated`."""

import os
import sys


def main() -> None:
    """Entry point; exits with 0 (all done), 1 or 2 (bad input) or 3 (some cells failed)."""
    from benchmarks.errors import InputError

    # Threads that wait give up their core. By default they spin, and where two processes share
    # the cores a step takes many times as long. Must be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hydra.errors import HydraException

    try:
        from benchmarks.launch import launch

        sys.exit(launch(sys.argv[1:]))
    except (InputError, HydraException) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
