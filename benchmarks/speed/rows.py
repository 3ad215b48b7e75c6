"""Rows of `speed.csv`: a contender of a case each, measured in processes of their own."""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.atomic import write_text_atomically
from benchmarks.errors import InputError
from benchmarks.speed.cases import Case

PHASES = ("train", "infer")
"""Training step and inference: how the columns of what is timed begin."""

COLUMNS = (
    "case", "method", "batch", "sensors", "window", "network", "contender", "status", "reason",
    *(
        f"{phase}_{what}"
        for phase in PHASES
        for what in ("seconds", "fastest", "slowest", "gflop", "gflops")
    ),
    "repeats", "matmul_gflops", "peak_memory_mb", "threads", "processor",
    "torch_version", "git_commit", "measured",
)  # fmt: skip

TEXT = (
    "case", "method", "network", "contender", "status", "reason", "processor", "torch_version",
    "git_commit", "measured",
)  # fmt: skip
"""Columns of words; the others may be empty where nothing was measured."""

MEMORY_ERRORS = ("not enough memory", "Cannot allocate", "MemoryError", "std::bad_alloc")
"""What torch and Python say when the memory that a case may take is used up."""


def read_rows(folder: Path) -> pd.DataFrame:
    """The table as it is, or an empty one.

    Raises:
        InputError: a file with other columns.
    """
    path = folder / "speed.csv"
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str))
    if tuple(rows.columns) != COLUMNS:
        raise InputError(f"{path} has other columns than this version writes; move it away")
    return rows.fillna(dict.fromkeys(TEXT, ""))


def write_rows(
    folder: Path, rows: pd.DataFrame, measured: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Adds a case, in place of an earlier measurement of it, and writes the table."""
    new = pd.DataFrame(measured, columns=list(COLUMNS))
    others = rows[~rows["case"].isin(new["case"])]
    rows = pd.concat([others, new], ignore_index=True) if len(others) else new
    write_text_atomically(folder / "speed.csv", rows.to_csv(index=False, float_format="%.6g"))
    return rows


def measure_case(case: Case, repeats: int, threads: int | None) -> list[dict[str, Any]]:
    """Times a case and takes its memory; a row for each contender.

    Where the plain formulation does not fit into memory, the suite's is measured alone.
    """
    from benchmarks.machine import software

    facts = software()
    shared = {
        "case": case.name, "method": case.method, "batch": case.batch, "sensors": case.sensors,
        "window": case.window, "network": case.network, "repeats": repeats,
        "processor": _processor(), "torch_version": facts["torch_version"],
        "git_commit": facts["git_commit"],
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    asked = {"case": asdict(case), "repeats": repeats, "threads": threads, "memory_of": None}
    timed = _in_own_process(asked | {"alone": False})
    lost = []
    if "times" not in timed:
        lost = [{"contender": "plain", **timed}]
        timed = _in_own_process(asked | {"alone": True})
    if "times" not in timed:
        return [shared | {"contender": "suite", **timed}]
    measured = []
    for name, times in timed["times"].items():
        row = {"contender": name, "status": "done", "reason": "", "threads": timed["threads"]}
        peak = _in_own_process(asked | {"memory_of": name})
        row |= {"peak_memory_mb": peak.get("peak_memory_mb", math.nan)}
        if "reason" in peak:
            row["reason"] = f"memory could not be measured: {peak['reason']}"
        measured.append(shared | times | row)
    return measured + [shared | row for row in lost]


def _in_own_process(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `benchmarks.speed.measure` writes, or the status and reason of its failure."""
    oracles = Path(__file__).parents[2] / "tests" / "oracles"
    path = [str(oracles), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.measure", json.dumps(asked)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )  # fmt: skip
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    memory = done.returncode == -9 or any(words in done.stderr for words in MEMORY_ERRORS)
    return {"status": "out_of_memory" if memory else "failed", "reason": reason}


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()
