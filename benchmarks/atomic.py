"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.errors import InputError


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, then puts it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text in one step."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_npz_atomically(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes a compressed `.npz` in one step."""
    import numpy as np  # not at the top: `--help` and bad input come through this module

    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def require_writable(folder: Path, option: str) -> None:
    """Checks that files can be made in `folder`, which is created.

    Raises:
        InputError: it cannot be written; `option` is what the user would change.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{option}={folder} cannot be written: {error.strerror}") from error
