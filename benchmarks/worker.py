"""A process beside this one that runs cells, one after the other, and may die."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.errors import InputError
from benchmarks.gpus import VISIBLE
from benchmarks.process import end_with_parent, log_to_stderr, spawning

Row = dict[str, Any]

POLL_SECONDS = 0.5
"""Time between two looks at the clock and at the stop file."""

START_SECONDS = 600.0
"""Time that a worker may take to import what it needs."""

READY = "ready"


class WorkerDiedError(RuntimeError):
    """The worker's process ended while it was at a cell.

    Args:
        code: its exit code, negative for a signal.
    """

    def __init__(self, code: int):
        self.killed = code == -signal.SIGKILL
        if self.killed:
            how = "was killed (signal 9), as the system does when memory runs out"
        elif code < 0:
            how = f"ended by signal {-code} ({signal.Signals(-code).name})"
        else:
            how = f"ended with exit code {code}"
        super().__init__(f"the process of the cell {how}")


class DeadlineError(RuntimeError):
    """The worker has not answered in time."""


class StoppedError(RuntimeError):
    """The launch is to stop."""


class Worker:
    """A process that runs cells one after the other.

    Args:
        gpus: those that it may see, as `CUDA_VISIBLE_DEVICES` names them; None = as this process.
    """

    def __init__(self, gpus: Sequence[str] | None):
        self.gpus = None if gpus is None else list(gpus)
        context = get_context("spawn")
        self._connection, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,))
        with spawning(), _visible(self.gpus):
            self._process.start()
        there.close()
        self._ready = False

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process.is_alive()

    def may_serve(self, gpus: list[str] | None) -> bool:
        """Whether it sees what a cell may use; one that needs no GPU cares for none."""
        return gpus is None or gpus == self.gpus

    def run(self, request: tuple[Any, ...], timeout: float | None, stop_file: Path | None) -> Row:
        """Calls `run_cell`.

        Args:
            request: its arguments.
            timeout: seconds that it may take, or None.
            stop_file: it is given up when this file appears.

        Raises:
            WorkerDiedError: the process ended.
            DeadlineError: it took too long; the process was ended.
            StoppedError: the stop file appeared; the process was ended.
            InputError: the results folder cannot be used.
            OSError: nothing can be written there any more.
        """
        try:
            self._wait_until_ready(stop_file)
            self._send(request)
            deadline = None if timeout is None else time.monotonic() + timeout
            answer = self._answer(deadline, stop_file)
        except BaseException:  # an interrupt, too, must leave nobody at work
            self.end()
            raise
        if isinstance(answer, Exception):
            raise answer
        row: Row = answer
        return row

    def _wait_until_ready(self, stop_file: Path | None) -> None:
        """Waits for the imports, which are no part of the cell's time."""
        if not self._ready:
            try:
                self._answer(time.monotonic() + START_SECONDS, stop_file)
            except DeadlineError as error:
                raise RuntimeError(f"no worker within {START_SECONDS:g} seconds") from error
            self._ready = True

    def end(self) -> None:
        """Ends the process, whatever it does; its claim and its GPU are free then."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _send(self, request: object) -> None:
        try:
            self._connection.send(request)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None

    def _answer(self, deadline: float | None, stop_file: Path | None) -> Any:
        while not wait([self._connection, self._process.sentinel], POLL_SECONDS):
            if deadline is not None and time.monotonic() > deadline:
                raise DeadlineError(f"no answer from the worker {self._process.pid} in time")
            if stop_file is not None and stop_file.exists():
                raise StoppedError
        try:
            if self._connection.poll():
                return self._connection.recv()
        except (EOFError, ConnectionResetError):
            pass
        raise self._death()

    def _death(self) -> WorkerDiedError:
        self._process.join()
        return WorkerDiedError(self._process.exitcode or 0)


@contextmanager
def _visible(gpus: list[str] | None) -> Iterator[None]:
    """A process that is started in a block sees these GPUs only."""
    before = os.environ.get(VISIBLE)
    if gpus is not None:
        os.environ[VISIBLE] = ",".join(gpus)
    try:
        yield
    finally:
        if gpus is not None:
            del os.environ[VISIBLE]
            if before is not None:
                os.environ[VISIBLE] = before


def _serve(connection: Connection) -> None:
    """What the worker's process does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the process that watches this one ends it
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    log_to_stderr()
    from benchmarks.execute import run_cell

    connection.send(READY)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_outcome(partial(run_cell, *request)))


def _outcome(run: Callable[[], Row]) -> Row | Exception:
    try:
        return run()
    except (InputError, OSError) as error:
        return error
    except Exception as error:
        return RuntimeError(repr(error))  # any other error may not survive the way
