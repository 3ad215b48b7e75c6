"""Sweeps whose cells are jobs: real ones of submitit on this machine, and of SLURM where it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import call, command, environment

from benchmarks import launchers
from benchmarks.errors import InputError

ROOT = Path(__file__).parents[2]

METHODS = """
import numpy as np


class Median:
    def impute(self, values, visible):
        return np.where(visible, values, np.nanmedian(values, axis=0)).astype(np.float32)
"""

MEDIAN = """
{name: median, label: Median, kind: closed_form, in_sample: true, deterministic: true,
 citation: "mine, 2026", needs: [], time_features: none, network: {_target_: my_methods.Median}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a method and a configuration folder of the user's own."""
    (tmp_path / "my_conf/model").mkdir(parents=True)
    (tmp_path / "my_methods.py").write_text(METHODS)
    (tmp_path / "my_conf/model/median.yaml").write_text(MEDIAN)
    return tmp_path


def test_each_cell_is_a_job_that_knows_all_that_the_launch_knew(folder: Path) -> None:
    pytest.importorskip("submitit", reason="the extra is absent: pip install '.[slurm]'")
    given = ("-m", "--config-dir=my_conf", "model=median", "dataset=simulated,metr_la")
    launch = command("run", *given, "tracking=none", "hydra/launcher=local_jobs")
    done = subprocess.run(
        launch,
        cwd=folder,
        env=environment() | {"PSAN_DATA": "no_data"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    table = pd.read_csv(folder / "results/default/runs.csv").set_index("dataset")
    assert table["status"].to_dict() == {"simulated": "done", "metr_la": "failed"}
    assert table.loc["simulated", "threads"] == 1  # OMP_NUM_THREADS
    assert "no_data" in table.loc["metr_la", "reason"]  # PSAN_DATA
    assert table.loc["metr_la", "reason"] in done.stderr
    messages = [path.read_text() for path in folder.glob("results/default/logs/*/*.err")]
    assert sorted(text[:5] for text in messages) == ["[1/2]", "[2/2]"]

    again = call(folder, "run", *given, "tracking=none")
    assert again.returncode == 3
    later = pd.read_csv(folder / "results/default/runs.csv").set_index("dataset")
    assert later.loc["simulated"].equals(table.loc["simulated"])  # done before


def test_a_launcher_whose_extra_is_absent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if launchers.find_spec("ray") is None:
        done = call(tmp_path, "run", "-m", "model=mean,last", "hydra/launcher=ray_cluster")
        assert done.returncode == 2
        assert "hydra/launcher=ray_cluster needs an extra: scripts/setup_ray.sh" in done.stderr
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"hydra/launcher=slurm needs an extra: pip .*\[slurm\]"):
        launchers.prepare_launcher("slurm", multirun=True)


def test_a_launcher_that_could_not_launch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra is absent: pip install '.[slurm]'")
    with pytest.raises(InputError, match="hydra/launcher=local_jobs launches sweeps: add -m"):
        launchers.prepare_launcher("local_jobs", multirun=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="slurm needs sbatch and srun on the path"):
        launchers.prepare_launcher("slurm", multirun=True)


def test_a_job_that_left_the_queue_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra is absent: pip install '.[slurm]'")
    from benchmarks.slurm import QueueWatcher

    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nprintf '7_1\\n7_12\\n'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    watcher = QueueWatcher()
    assert {job: watcher.is_done(job) for job in ("7_1", "7_2", "7_12")} == {
        "7_1": False,
        "7_2": True,
        "7_12": False,
    }
    squeue.write_text("#!/bin/sh\nexit 1\n")  # SLURM does not answer
    assert not watcher.is_done("7_1", mode="force")


@pytest.mark.skipif(
    shutil.which("slurmctld") is None or os.geteuid() != 0 or Path(sys.prefix) != ROOT / ".venv",
    reason="needs SLURM's daemons, root to start them, and the environment of scripts/setup.sh",
)
def test_a_sweep_through_a_real_slurm() -> None:
    done = subprocess.run(
        [ROOT / "scripts/slurm_one_node.sh", "model=mean,linear"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    jobs, _, rows = done.stdout.partition("the rows:")
    assert jobs.count("COMPLETED") == 2
    assert rows.count("done") == 2
