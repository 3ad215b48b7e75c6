"""Which process works on a cell: a claim in the cell's folder, kept alive by a heartbeat.

Several launches of a sweep, on one machine or on several with a common file system, share its cells
by claims. A claim whose process is gone is nobody's: on the same machine the system knows, on
another the heartbeat has stopped.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import psutil
from filelock import FileLock

from benchmarks.atomic import write_text_atomically

HEARTBEAT_SECONDS = 15.0
"""Time between two signs of life."""

STALE_SECONDS = 120.0
"""Age of the last sign of life at which a claim of another machine counts no longer."""

START_TOLERANCE = 2.0
"""Seconds by which two readings of a process's start may differ."""


@dataclass(frozen=True)
class Claim:
    """A process that works on a cell, and since when (seconds since 1970)."""

    host: str
    pid: int
    process_started: float
    since: float

    @classmethod
    def own(cls) -> "Claim":
        """A claim of this process, from now on."""
        started = psutil.Process().create_time()
        return cls(socket.gethostname(), os.getpid(), started, time.time())

    def process_is_there(self) -> bool | None:
        """Whether the process runs; None on another machine, where only the heartbeat tells."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            started, ended = process.create_time(), process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        return not ended and abs(started - self.process_started) < START_TOLERANCE


def holder(folder: Path) -> Claim | None:
    """The living process that has claimed the cell in `folder`, if any."""
    claim = _read(folder)
    if claim is None:
        return None
    there = claim.process_is_there()
    if there is None:
        with suppress(FileNotFoundError):  # it has just been given up
            there = time.time() - _path(folder).stat().st_mtime < STALE_SECONDS
    return claim if there else None


@contextmanager
def claimed(folder: Path) -> Iterator[Claim | None]:
    """Claims the cell in `folder` for the length of a block.

    Yields:
        None if the cell is this process's now, else who has it.
    """
    own = Claim.own()
    with FileLock(folder / "claim.lock"):
        other = holder(folder)
        if other is None:
            write_text_atomically(_path(folder), json.dumps(asdict(own)))
    if other is not None:
        yield other
        return
    ended = Event()
    Thread(target=_beat, args=(folder, own, ended), daemon=True).start()
    try:
        yield None
    finally:
        ended.set()
        with FileLock(folder / "claim.lock"):
            if _read(folder) == own:
                _path(folder).unlink()


def _beat(folder: Path, own: Claim, ended: Event) -> None:
    """Renews the time of the claim's file until the block ends or the claim is another's."""
    while not ended.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # a network file system that fails once may work the next time
            if _read(folder) not in (None, own):
                return
            os.utime(_path(folder))


def _read(folder: Path) -> Claim | None:
    """The claim that is there, or None where there is none that anyone could hold."""
    try:
        return Claim(**json.loads(_path(folder).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _path(folder: Path) -> Path:
    return folder / "claim.json"
