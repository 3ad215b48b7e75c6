"""After the event: rows sent into a store, and what dead workers left there."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks import rows
from benchmarks.claims import holder
from benchmarks.errors import InputError
from benchmarks.tracking.content import KEY_TAG
from benchmarks.tracking.replay import Outcome, Replay
from benchmarks.tracking.runs import find_runs
from benchmarks.tracking.store import check, connect, reason, sqlite_file, tolerated
from benchmarks.tracking.sweeps import describe_sweep


@dataclass
class Synced:
    """What a replay did.

    Args:
        rows: how many of them came to what.
        killed: runs that were marked because their worker is gone.
        problems: errors of single rows.
    """

    rows: Counter[Outcome] = field(default_factory=Counter)
    killed: int = 0
    problems: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """In a few words."""
        always = (Outcome.NEW, Outcome.THERE, Outcome.COMPLETED)
        parts = [f"{self.rows[o]} {o}" for o in Outcome if o in always or self.rows[o]]
        if self.killed:
            parts.append(f"{self.killed} of dead workers marked as killed")
        return ", ".join(parts)


def sync(tracking: Mapping[str, Any], experiment: Path) -> Synced:
    """Replays an experiment's rows into a store; what is there already is left as it is.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.

    Raises:
        InputError: a store that cannot be reached, or that fails on the way.
    """
    done = Synced()
    with FileLock(experiment / "sync.lock"):  # two at once would both find a run missing
        try:
            client = connect(tracking)
            if client is None:
                raise InputError(f"tracking.kind={tracking['kind']} names no store")
            replay = Replay.of(client, experiment)
            _send_all(replay, done)
            done.killed = replay.kill_dead()
            describe_sweep(client, replay.experiment_id, experiment)
        except InputError:
            raise
        except Exception as error:  # of MLflow's, a database's or the network's many kinds
            raise InputError(
                f"tracking.uri={tracking['uri']} failed after {sum(done.rows.values())} rows: "
                f"{reason(error)}"
            ) from error
    return done


def _send_all(replay: Replay, done: Synced) -> None:
    known = defaultdict(list)
    for run in find_runs(replay.client, replay.experiment_id):
        known[run.data.tags[KEY_TAG]].append(run)
    for path in sorted(replay.experiment.glob("cells/*/row.json")):
        try:
            row = rows.read_row(replay.experiment, path.parent.name)
            if row is None:
                continue
            busy = holder(path.parent) is not None
            done.rows[Outcome.RUNNING if busy else replay.send(row, known[row["key"]])] += 1
        except InputError as error:
            done.problems.append(str(error))
        except KeyError as error:
            done.problems.append(f"{path} is damaged: it has no {error}")


def end_run(tracking: Mapping[str, Any], experiment: Path, row: Mapping[str, Any]) -> None:
    """Ends the run of a cell whose worker can do that no longer, with what its row says.

    For whoever stopped the worker or saw it die, after the row was written: the run that the worker
    left is completed. Should the store fail, that is said.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.
        row: of the cell.

    Raises:
        InputError: an unknown kind of tracking.
    """
    check(tracking)
    with tolerated(f"the end of {row['model']} ({row['key']})", experiment.name):
        client = connect(tracking)
        if client is not None:
            replay = Replay.of(client, experiment)
            replay.send(row, [*find_runs(client, replay.experiment_id, row["key"])])


def close_dead_runs(tracking: Mapping[str, Any], experiment: Path) -> None:
    """Marks runs as KILLED whose worker is gone.

    On this machine its process tells, on another the heartbeat of its claim. Should the store fail,
    that is said.

    Args:
        tracking: `kind` and `uri` of the store.
        experiment: folder of the results.

    Raises:
        InputError: an unknown kind of tracking.
    """
    check(tracking)
    file = sqlite_file(str(tracking["uri"]))
    if file is not None and not file.exists():
        return
    with tolerated(f"which runs of {experiment.name} are dead", experiment.name):
        client = connect(tracking)
        if client is not None:
            Replay.of(client, experiment).kill_dead()
