"""Which jobs of a sweep SLURM still has, for the process that waits for them."""

import time

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

ASK_SECONDS = 60
"""Longest time between two questions to SLURM about all jobs of the sweep."""


class QueueWatcher(SlurmInfoWatcher):
    """Asks `squeue` for the jobs that there are, where submitit asks `sacct` for those of the past.

    A cluster without accounting answers nothing to `sacct`, and the launch would wait for ever for
    a job that was killed.
    """

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--me", "--array", "--noheader", "--format=%i"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of every job: in the queue, running or not, or gone from it."""
        text = string if isinstance(string, str) else string.decode()
        queued = set(text.split())
        states = {True: "RUNNING", False: "ENDED"}
        return {job: {"JobID": job, "State": states[job in queued]} for job in self._registered}


def watch_queue() -> None:
    """Lets the jobs that this process submits be watched so."""
    SlurmJob.watcher = QueueWatcher(ASK_SECONDS)


def wait_for_jobs() -> None:
    """Waits until none of the jobs that this process has submitted is in the queue any more."""
    watcher = SlurmJob.watcher
    while not all(watcher.is_done(job) for job in tuple(watcher._registered)):
        time.sleep(1)
