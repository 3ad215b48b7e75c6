"""Runs the suite's commands as a user does: real sub-processes."""

import os
import subprocess
import sys
from pathlib import Path


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{module}", *arguments]


def environment() -> dict[str, str]:
    """One thread per process, no store or data of the caller's."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "PSAN_DATA")}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def call(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder` and waits for it."""
    return subprocess.run(
        command(module, *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
