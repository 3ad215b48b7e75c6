"""A launch of `benchmarks.tune`: runs what a study lacks, then writes what follows from it."""

import logging
from pathlib import Path

from benchmarks.atomic import require_writable
from benchmarks.paths import conf_dir
from benchmarks.process import log_to_stderr
from benchmarks.tune.fields import TRIALS
from benchmarks.tune.options import Options
from benchmarks.tune.plan import make_plan
from benchmarks.tune.records import read_records
from benchmarks.tune.tuned import target_folder, write_tuned

log = logging.getLogger(__name__)

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
    folder = target_folder(options)
    require_writable(folder, "write_to")
    # torch, Optuna and matplotlib take seconds: for good input only
    from benchmarks.tune.report import write_report
    from benchmarks.tune.table import write_tables
    from benchmarks.tune.work import run_study

    write_tables(run_study(plan), plan)
    records = read_records(plan.folder)
    log.info("%s", write_report(records))
    if not records.done:
        log.error("no trial was completed; %s says why", plan.folder / TRIALS)
        return NO_TRIAL
    path = write_tuned(records, folder)
    if path is not None:
        _say_how_to_run(path, folder)
    return 0


def _say_how_to_run(path: Path, folder: Path) -> None:
    """Names the command for a file of best values in a configuration folder."""
    suite = conf_dir()
    if folder.resolve() == suite.resolve():
        log.info("%s: run it with model=tuned/%s", path, path.stem)
        return
    log.info("%s: run it with --config-dir %s model=tuned/%s", path, folder, path.stem)
    if (suite / "model" / "tuned" / path.name).exists():
        log.warning("the suite has a file of that name, which comes first: rename yours")
