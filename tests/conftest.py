"""Shape annotations of the packages are checked while the tests run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from postgres import Postgres, binaries, running_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # in the background of a script, where the processes that tests interrupt would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook(["psan", "baselines", "benchmarks"], "beartype.beartype")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real slices, one sub-folder per dataset."""
    root = os.environ.get("PSAN_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("PSAN_DATA does not name a folder with the real traffic data")
    return Path(root)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with running_server(programs) as server:
        yield server


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store of MLflow's with its tables and nothing else, to be copied."""
    from benchmarks.tracking import connect  # after the hook above

    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    connect({"kind": "mlflow", "uri": f"sqlite:///{path}"})
    return path
