"""MLflow mirror of the runs: this package alone imports mlflow.

The local row is the result; MLflow shows it. Whatever keeps the store from being reached is said
once, and the run goes on; `python -m benchmarks.track sync` sends later what is missing.
"""

from benchmarks.tracking.live import Tracker
from benchmarks.tracking.parents import Parent
from benchmarks.tracking.replay import Synced, close_dead_runs, end_run, sync
from benchmarks.tracking.store import connect
from benchmarks.tracking.sweeps import end_sweep

__all__ = [
    "Parent",
    "Synced",
    "Tracker",
    "close_dead_runs",
    "connect",
    "end_run",
    "end_sweep",
    "sync",
]
