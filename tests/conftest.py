"""Shape annotations of the packages are checked while the tests run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook
from postgres import Postgres, binaries, running_server

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
