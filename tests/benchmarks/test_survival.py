"""Sweeps in which processes are killed, hang, crash or meet a full disk."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from commands import call, command, environment

METHODS = """
import os, signal, time
import numpy as np

class Method:
    def __init__(self, seed, value=0.0):
        self.seed = seed

    def impute(self, values, visible):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{type(self).__name__} {self.seed}\\n")
        self.misbehave()
        rng = np.random.default_rng(self.seed)
        return np.where(visible, values, rng.normal(50, 5, values.shape)).astype(np.float32)

    def misbehave(self):
        pass

class Slow(Method):
    def misbehave(self):
        time.sleep(0.4)

class Hang(Method):
    def misbehave(self):
        time.sleep(600)

class Killed(Method):
    def misbehave(self):
        if os.path.exists("doomed"):
            open("doomed", "w").write("3")
        os.kill(os.getpid(), signal.SIGKILL)

class Crash(Method):
    def misbehave(self):
        os.kill(os.getpid(), signal.SIGSEGV)

class Wrong(Method):
    def misbehave(self):
        raise RuntimeError("no idea")

class Once(Method):
    def misbehave(self):
        if open(os.environ["CALLS"]).read().count("Once") < 3:
            raise RuntimeError("not yet")
"""
DOOMED = """
import os, signal, sys
if "spawn_main" in " ".join(sys.orig_argv) and os.path.exists("doomed"):
    left = int(open("doomed").read())
    if left:
        open("doomed", "w").write(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)
"""
"""Run by each new Python process: kills as many workers as the file says."""

NAMES = ("slow", "hang", "killed", "crash", "wrong", "once")
COMMON = ("dataset=simulated", "tracking=none", "--config-dir=conf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with methods that misbehave."""
    (tmp_path / "misbehaving.py").write_text(METHODS)
    (tmp_path / "conf/model").mkdir(parents=True)
    for name in NAMES:
        content: dict[str, Any] = {
            "name": name, "label": name, "kind": "closed_form", "in_sample": True,
            "deterministic": False, "citation": "none", "needs": ["seed"], "time_features": "none",
            "network": {"_target_": f"misbehaving.{name.title()}"},
        }  # fmt: skip
        (tmp_path / f"conf/model/{name}.yaml").write_text(json.dumps(content))
    return tmp_path


def surroundings(folder: Path) -> dict[str, str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return environment() | {"PYTHONPATH": os.pathsep.join(paths), "CALLS": str(folder / "calls")}


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", "-m", *COMMON, *arguments),
        cwd=folder,
        env=surroundings(folder),
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def sweep(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and messages of a sweep that is left to itself."""
    process = start(folder, *arguments)
    _, printed = process.communicate(timeout=300)
    return process.returncode, printed


def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results/default/runs.csv").set_index("model")


def calls(folder: Path) -> Counter[str]:
    path = folder / "calls"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kills a launch and whatever it has started, as a power cut would."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in family:
        each.kill()
    psutil.wait_procs(family)
    process.communicate()


TWELVE = (
    "model=brits,slow", "mask.rate=0.25,0.5", "seed=1,2,3", "trainer=smoke",
    "trainer.max_epochs=3", "trainer.batch_size=2",
)  # fmt: skip
MEASURED = (
    "train_seconds", "seconds_per_step", "windows_per_second", "peak_memory_mb", "seconds",
    "git_commit", "finished",
)  # fmt: skip
"""Columns that differ from run to run."""


def test_a_sweep_that_is_killed_five_times_ends_like_an_undisturbed_one(folder: Path) -> None:
    killed, undisturbed = folder, folder / "undisturbed"
    undisturbed.mkdir()
    for name in ("conf", "misbehaving.py"):
        (undisturbed / name).symlink_to(folder / name)
    code, printed = sweep(undisturbed, *TWELVE)
    assert code == 0, printed

    chance = random.Random(11)
    kept: dict[Path, bytes] = {}
    for kill in range(5):
        process = start(killed, *TWELVE)
        deadline = time.monotonic() + 120
        goal = 2 * kill  # rows that are there when it is killed: not only the start is disturbed
        while len(found := list(killed.glob("results/default/cells/*/row.json"))) < goal:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2) if kill else 6)
        kill_all(process)
        assert all(path.read_bytes() == content for path, content in kept.items())
        found = list(killed.glob("results/default/cells/*/row.json"))
        kept = {path: path.read_bytes() for path in found}
    assert sweep(killed, *TWELVE)[0] == 0
    assert all(path.read_bytes() == content for path, content in kept.items())

    tables = [
        pd.read_csv(each / "results/default/runs.csv").drop(columns=list(MEASURED))
        for each in (killed, undisturbed)
    ]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) == 12
    assert set(tables[0]["status"]) == {"done"}
    assert not list(killed.glob("results/default/cells/*/claim.json"))


def test_whatever_a_cell_does_becomes_its_row_and_the_others_go_on(folder: Path) -> None:
    code, printed = sweep(folder, "model=hang,killed,crash,wrong,mean", "timeout=3")
    assert code == 3
    table = rows(folder)
    assert table["status"].to_dict() == {
        "hang": "timeout", "killed": "out_of_memory", "crash": "failed", "wrong": "failed",
        "mean": "done",
    }  # fmt: skip
    for model, reason in (
        ("hang", "timeout=3"), ("killed", "signal 9"), ("crash", "SIGSEGV"), ("wrong", "no idea")
    ):  # fmt: skip
        assert reason in table["reason"][model]
        assert f"{model} on simulated" in printed
    assert table["seconds"]["hang"] >= 3
    assert not list(folder.glob("results/default/cells/*/claim.json"))
    shown = call(folder, "status", *COMMON, "model=hang,killed,crash,wrong,mean", "timeout=3")
    for text in ("out_of_memory", "signal 9", "SIGSEGV", "no idea", "timeout=3", "5 cells"):
        assert text in shown.stdout


def test_how_often_a_failed_cell_is_tried(folder: Path) -> None:
    code, _ = sweep(folder, "model=once,mean", "retry_failed=2")  # works at its third attempt
    assert code == 3
    assert rows(folder)["attempts"].to_dict() == {"once": 2, "mean": 1}
    code, _ = sweep(folder, "model=once,mean", "retry_failed=0")
    assert code == 3
    assert calls(folder) == {"Once 42": 2}
    code, printed = sweep(folder, "model=once,mean")
    assert code == 0, printed
    assert rows(folder)["attempts"].to_dict() == {"once": 3, "mean": 1}
    assert sweep(folder, "model=once,mean")[0] == 0
    assert calls(folder) == {"Once 42": 3}


@pytest.mark.parametrize("parallel", [False, True])
def test_the_first_failure_stops_the_launch_if_asked(folder: Path, parallel: bool) -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2") if parallel else ()
    started = time.monotonic()
    models = "model=hang,wrong,mean,last" if parallel else "model=wrong,mean,last"
    code, printed = sweep(folder, models, "fail_fast=true", *launcher)
    assert code == 3
    assert set(rows(folder).index) == {"wrong"}, printed
    assert time.monotonic() - started < 120  # a hanging cell is given up
    code, _ = sweep(folder, "model=mean,last")
    assert code == 0


def test_a_worker_that_dies_again_and_again_stops_no_other_cell(folder: Path) -> None:
    """The one that is to record how the first one died dies as well."""
    (folder / "sitecustomize.py").write_text(DOOMED)
    (folder / "doomed").write_text("0")
    code, printed = sweep(folder, "model=killed,mean")
    assert code == 1
    assert "could not leave a row" in printed
    assert set(rows(folder).index) == {"mean"}


def test_a_skipped_cell_is_run_when_what_it_lacked_is_there(folder: Path) -> None:
    path = folder / "conf/model/once.yaml"
    path.write_text(path.read_text()[:-1] + ', "requires": "not_yet"}')
    assert sweep(folder, "model=once", "retry_failed=3")[0] == 0
    assert rows(folder)["status"].to_dict() == {"once": "skipped"}
    (folder / "not_yet.py").touch()
    assert sweep(folder, "model=once", "retry_failed=3")[0] == 0
    assert rows(folder)["status"].to_dict() == {"once": "done"}


def test_two_launches_try_a_failing_cell_once(folder: Path) -> None:
    both = [start(folder, "model=slow,wrong", "seed=1,2") for _ in range(2)]
    printed = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [3, 3], printed
    assert calls(folder) == {f"{name} {seed}": 1 for name in ("Slow", "Wrong") for seed in (1, 2)}


def test_status_serves_itself_from_the_plan_of_a_launch_by_another_launcher(folder: Path) -> None:
    assert sweep(folder, "hydra/launcher=joblib", "model=mean,last", "timeout=500")[0] == 0
    plan = folder / "results/default/plan.json"
    before = plan.stat().st_mtime_ns
    assert "done              2" in call(folder, "status", "model=mean,last", *COMMON).stdout
    assert plan.stat().st_mtime_ns == before


def test_two_launches_share_the_cells(folder: Path) -> None:
    seeds = "seed=" + ",".join(map(str, range(8)))
    both = [start(folder, "model=slow", seeds) for _ in range(2)]
    printed = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert calls(folder) == {f"Slow {seed}": 1 for seed in range(8)}
    assert len(rows(folder)) == 8
    assert all("MAE" in text for text in printed)  # each did some of the work


def test_a_cell_that_a_dead_launch_had_claimed_is_taken_over(folder: Path) -> None:
    process = start(folder, "model=hang")
    while not calls(folder):
        assert process.poll() is None
        time.sleep(0.05)
    running = call(folder, "status", *COMMON, "model=hang").stdout
    assert "running" in running
    kill_all(process)
    assert "missing" in call(folder, "status", *COMMON, "model=hang").stdout
    code, _ = sweep(folder, "model=hang", "timeout=1")
    assert code == 3
    assert calls(folder) == {"Hang 42": 2}


def test_an_interrupted_launch_leaves_nobody_at_work(folder: Path) -> None:
    process = start(folder, "model=hang,mean", start_new_session=True)
    while not calls(folder):
        assert process.poll() is None
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert "same command" in printed
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


def test_a_full_disk_is_said_and_costs_no_row(folder: Path) -> None:
    disk = folder / "results"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root, where mounts are allowed")
    try:
        (disk / "filler").write_bytes(b"0" * 250_000)
        code, printed = sweep(folder, "model=mean,last,linear,slow", "mask.rate=0.2,0.3,0.4")
        assert code == 1
        assert "No space left on device" in printed
        assert "Traceback" not in printed
        for path in disk.glob("default/cells/*/row.json"):
            assert json.loads(path.read_text())["status"] == "done"
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        code, printed = sweep(folder, "model=mean,last,linear,slow", "mask.rate=0.2,0.3,0.4")
        assert code == 0, printed
        assert len(rows(folder)) == 12
    finally:
        subprocess.run(["umount", str(disk)], check=True)
