"""Where a dataset's files are, and what to do when they are not."""

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import InputError

DEFAULT_ROOT = "data"
VARIABLE = "PSAN_DATA"


def default_data_root() -> Path:
    """Return the folder of the datasets: environment variable PSAN_DATA, else `data`."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_ROOT)


def existing_file(name: str, data_root: Path, candidates: Sequence[str]) -> Path | None:
    """Return the first candidate that is in `<data_root>/<name>/`, or None."""
    for candidate in candidates:
        path = data_root / name / candidate
        if path.is_file():
            return path
    return None


def find_file(name: str, data_root: Path, role: str, candidates: Sequence[str]) -> Path:
    """Return the first candidate that is in `<data_root>/<name>/`.

    Args:
        name: name of the dataset, and of its folder.
        data_root: folder of the datasets.
        role: what the file holds, which is also the loader's key: `values`, `distances`, ...
        candidates: accepted file names, in order of preference.

    Raises:
        InputError: that says what was looked for, where, and how to get it.
    """
    path = existing_file(name, data_root, candidates)
    if path is None:
        without = "" if role == "values" else f" (or do without: dataset.loader.{role}=null)"
        raise InputError(
            f"dataset {name}: no {role} file ({' or '.join(candidates)}) in {data_root / name}: "
            f"get it with `python -m benchmarks.data fetch {name}`{without}, or name the folder "
            f"that holds {name}/ by data_root= or {VARIABLE}"
        )
    return path


def find_optional(
    name: str, data_root: Path, role: str, candidates: Sequence[str] | None
) -> Path | None:
    """Return None if the configuration names no file for this role, else `find_file`."""
    return find_file(name, data_root, role, candidates) if candidates else None
