"""A launch of `benchmarks.tune`: runs what a study lacks, then writes what follows from it."""

from benchmarks.atomic import require_writable
from benchmarks.process import log_to_stderr
from benchmarks.tune.options import Options
from benchmarks.tune.plan import make_plan

NO_TRIAL = 3
"""Exit code when no trial could be completed."""


def launch(options: Options) -> int:
    """Runs the study and writes its tables, report, figures and best values.

    Returns:
        The exit code.

    Raises:
        InputError: whatever the user can mend.
        HydraException: what Hydra cannot compose.
    """
    log_to_stderr()
    plan = make_plan(options)
    require_writable(plan.folder, "results_dir")
    from benchmarks.tune.work import run_study  # and torch with it: seconds, for good input only

    run_study(plan)
    return 0
