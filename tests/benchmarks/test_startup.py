"""What a command imports before it answers, and what a process does only once."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import call, environment

from benchmarks import execute, identify, launch, machine
from benchmarks.data import series

HEAVY = ("torch", "pytorch_lightning", "mlflow")

RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    sys.stderr.write("\\nimported:" + ",".join(sys.modules) + "\\n")
"""
"""Runs a module as `python -m` does and names what it has imported, however it ends."""

LIGHT = ("matplotlib", "pandas")

COMMANDS = {
    "help of run": (("run", "--help"), LIGHT),
    "help of report": (("report", "--help"), LIGHT),
    "help of tune": (("tune", "--help"), (*LIGHT, "optuna", "hydra")),
    "help of status": (("status", "--help"), LIGHT),
    "status": (("status", "name=small", "model=mean", "tracking=none"), ("matplotlib",)),
    "plan": (("run", "--plan", "model=psan", "tracking=none"), ("matplotlib",)),
    "datasets": (("data", "list"), LIGHT),
    "table": (("report", "experiment=small", "table=mae"), ("matplotlib",)),
    "unknown method": (("run", "model=oracle"), LIGHT),
    "unknown method in a sweep": (("run", "-m", "model=mean,oracle"), ("matplotlib",)),
    "unknown experiment": (("run", "-m", "experiment=nope"), LIGHT),
    "unknown results": (("report", "experiment=nope"), LIGHT),
    "unknown method of a study": (("tune", "model=oracle"), (*LIGHT, "optuna")),
    "unknown study": (("tune", "report", "study=nope"), (*LIGHT, "optuna")),
    "unknown table": (("report", "experiment=small", "table=rmse"), LIGHT),
    "help of track": (("track", "--help"), LIGHT),
    "unknown verb": (("track", "send"), LIGHT),
    "unknown results to track": (("track", "sync", "experiment=nope"), LIGHT),
    "unknown dataset": (("data", "verify", "nope"), LIGHT),
}
"""Commands that train nothing, and what they do not import besides the `HEAVY` packages."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the results of a small experiment."""
    folder = tmp_path_factory.mktemp("startup")
    given = ("name=small", "model=mean", "dataset=simulated", "tracking=none")
    assert call(folder, "run", *given).returncode == 0
    shutil.rmtree(folder / "results/small/cells")
    return folder


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_that_train_nothing_import_no_heavy_package(case: str, results: Path) -> None:
    (module, *arguments), others = COMMANDS[case]
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"benchmarks.{module}", *arguments],
        cwd=results,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    imported = set(done.stderr.rpartition("imported:")[2].strip().split(","))
    assert "benchmarks.errors" in imported, done.stderr
    assert not imported & {*HEAVY, *others}
    assert (done.returncode == 0) == (not case.startswith("unknown")), done.stderr


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts what a process should do once, in a process that has done none of it."""
    caches = (identify._load, execute._draw, execute._software)
    for cached in caches:
        cached.cache_clear()
    counted: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_count(*arguments: Any, **options: Any) -> Any:
            counted[name] += 1
            return function(*arguments, **options)

        return call_and_count

    def replace(owner: Any, name: str) -> None:
        monkeypatch.setattr(owner, name, counting(name, getattr(owner, name)))

    replace(identify, "load_series")
    replace(execute, "draw_mask")
    git = SimpleNamespace(run=machine.subprocess.run)
    git.CalledProcessError = subprocess.CalledProcessError
    replace(git, "run")
    monkeypatch.setattr(machine, "subprocess", git)
    sha = SimpleNamespace(sha256=series.hashlib.sha256)
    replace(sha, "sha256")
    monkeypatch.setattr(series, "hashlib", sha)
    yield counted
    for cached in caches:
        cached.cache_clear()


def test_a_second_cell_reads_hashes_and_asks_nothing_again(
    calls: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run"])
    given = [
        "-m",
        "dataset=simulated",
        "mask_seed=1,2",
        "tracking=none",
        "isolate=false",
        f"results_dir={tmp_path}",
    ]
    assert launch.launch([*given, "model=mean,linear"]) == 0
    rows = list(tmp_path.glob("default/cells/*/row.json"))
    assert len(rows) == 4
    assert calls == {"load_series": 2, "sha256": 2, "run": 1, "draw_mask": 2}
