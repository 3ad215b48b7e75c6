"""Shape annotations of the packages are checked while the tests run."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook(["psan", "baselines", "benchmarks"], "beartype.beartype")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real slices, one sub-folder per dataset."""
    root = os.environ.get("PSAN_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("PSAN_DATA does not name a folder with the real traffic data")
    return Path(root)
