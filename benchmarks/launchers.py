"""Hydra's launchers of a sweep, and what has to be there for those that run on a cluster."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

from benchmarks.errors import InputError


@dataclass(frozen=True)
class Needs:
    """What a choice of `hydra/launcher` takes besides the suite's own dependencies."""

    package: str
    """The plugin's, within `hydra_plugins`."""
    install: str
    """The command that brings it."""
    programs: tuple[str, ...] = ()
    """To be found on the path."""


_SUBMITIT = Needs("hydra_submitit_launcher", "pip install '.[slurm]'")
_RAY = Needs("hydra_ray_launcher", "scripts/setup_ray.sh, which makes .venv-ray for it")

NEEDS = {
    "slurm": replace(_SUBMITIT, programs=("sbatch", "srun")),
    "local_jobs": _SUBMITIT,
    "ray_cluster": _RAY,
    "ray": _RAY,
}
"""By the names in `conf/hydra/launcher/`, and the plugin's own for Ray."""


CLUSTERS = ("submitit", "ray")
"""Packages whose errors say that a job has ended and left no result."""


def prepare_launcher(choice: str | None, multirun: bool) -> Callable[[], None]:
    """Checks that the launcher of the suite's own that is asked for can be used, and sets it up.

    Args:
        choice: of `hydra/launcher`; None, or one that is not the suite's, is left to Hydra.
        multirun: whether this is a sweep; Hydra ignores the launcher of a single run.

    Returns:
        What waits until none of the launched jobs is left that a queue may still hold.

    Raises:
        InputError: what it needs is absent, or it would be ignored.
    """
    needs = NEEDS.get(choice or "")
    if needs is None:
        return _nothing_waits
    if find_spec(f"hydra_plugins.{needs.package}") is None:
        raise InputError(f"hydra/launcher={choice} needs an extra: {needs.install}")
    absent = [program for program in needs.programs if shutil.which(program) is None]
    if absent:
        raise InputError(
            f"hydra/launcher={choice} needs {' and '.join(absent)} on the path: "
            "launch from a machine that submits to SLURM"
        )
    if not multirun:
        raise InputError(f"hydra/launcher={choice} launches sweeps: add -m")
    if choice == "slurm":
        from benchmarks.slurm import wait_for_jobs, watch_queue

        watch_queue()
        return wait_for_jobs
    return _nothing_waits


def is_lost_job(error: Exception) -> bool:
    """Whether the error of a launcher is that a job on a cluster was killed, or could not start."""
    return type(error).__module__.partition(".")[0] in CLUSTERS


def _nothing_waits() -> None:
    """Without a queue, cells that are not done are being worked on, or are lost."""
