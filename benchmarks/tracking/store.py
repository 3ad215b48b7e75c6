"""The store: how it is made and reached, and what happens while it is busy or away."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from filelock import FileLock

from benchmarks.errors import InputError

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

KINDS = ("mlflow", "none")

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Schemes of stores that are reached without a server of MLflow's."""

DRIVERS = {"postgresql": "psycopg", "postgresql+psycopg": "psycopg"}
"""The package that a scheme needs, where an extra of the suite brings it."""

BUSY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's codes of errors that pass, a locked database among them."""

PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Seconds between the attempts at a busy store; each attempt at SQLite waits 20 s by itself."""

ANSWER_SECONDS = 10
"""Longest wait for a server that does not answer, instead of the minutes that are the default."""


def check(tracking: Mapping[str, Any]) -> None:
    """Checks what can be known without asking the store.

    Raises:
        InputError: an unknown kind, or a store whose driver is not installed.
    """
    if tracking["kind"] not in KINDS:
        raise InputError(
            f"tracking.kind={tracking['kind']!r} is unknown; choose from {', '.join(KINDS)}"
        )
    scheme = str(tracking["uri"]).partition(":")[0]
    driver = DRIVERS.get(scheme)
    if tracking["kind"] != "none" and driver is not None and find_spec(driver) is None:
        raise InputError(
            f"tracking.uri={scheme}:… needs the package {driver}, which is not installed: "
            "pip install '.[postgres]'"
        )


def connect(tracking: Mapping[str, Any]) -> "MlflowClient | None":
    """A client of the store that `tracking` names, or None if nothing is to be tracked.

    Raises:
        InputError: as `check`.
    """
    check(tracking)
    return None if tracking["kind"] == "none" else _reach(str(tracking["uri"]))


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls, and calls again a little later each time while the store is busy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    for pause in PAUSES:
        try:
            return call(*args, **kwargs)
        except MlflowException as error:
            if error.error_code not in BUSY:
                raise
        except DBAPIError:  # another machine, which does not see our lock, is making the tables
            log.debug("the store is not ready", exc_info=True)
        time.sleep(pause * random.uniform(0.5, 1.5))
    return call(*args, **kwargs)


@contextmanager
def tolerated(what: str, experiment: str) -> Iterator[None]:
    """Lets the work go on without MLflow, whatever the store answers, and says so."""
    try:
        yield
    except Exception as error:
        log.warning(
            "MLflow: %s was not tracked: %s; python -m benchmarks.track sync experiment=%s "
            "sends what is missing",
            what, reason(error), experiment,
        )  # fmt: skip
        forget_stores()


def reason(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


CACHES: list[Callable[[], None]] = []
"""What forgets that which was learned of stores; modules that keep more of it add to this."""


def forget_stores() -> None:
    """Whoever comes next asks anew whether a store is there."""
    for clear in CACHES:
        clear()


@cache
def _reach(uri: str) -> "MlflowClient":
    """A client of a store that answered; once a process, unless the store fails later."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_SECONDS))
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(ANSWER_SECONDS))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # which would send to its makers
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):  # importing mlflow sets their levels
        logging.getLogger(name).setLevel(logging.WARNING)
    # prints the trace of each error, also of those after which it is asked again
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if uri.startswith(DATABASES):
        _make_ready(uri)
    with creation_lock(uri):  # the first client of a database creates its tables
        client = patiently(MlflowClient, tracking_uri=uri)
        patiently(client.search_experiments, max_results=1)
    return client


CACHES.append(_reach.cache_clear)


def _make_ready(uri: str) -> None:
    """Creates an SQLite file that is absent; asks another database whether it is there.

    The file is made beside its place: were it made there, a process that is killed while it makes
    the tables would leave a store that nobody can use.
    """
    import sqlalchemy
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH as ARTIFACTS
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # seconds, outside the lock

    file = sqlite_file(uri)
    if file is None:  # MLflow itself would try for minutes
        sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()
        return
    with creation_lock(uri):
        if not file.exists():
            unfinished = Path(f"{file}.new")
            unfinished.unlink(missing_ok=True)
            SqlAlchemyStore(f"sqlite:///{unfinished}", ARTIFACTS).engine.dispose()
            unfinished.replace(file)


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other and for one in memory."""
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(name) if uri.startswith("sqlite:///") and name not in ("", ":memory:") else None


def creation_lock(uri: str) -> FileLock:
    """A lock beside a local store; for a server, one for all in the working directory."""
    file = sqlite_file(uri) or Path("mlflow")
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock")
