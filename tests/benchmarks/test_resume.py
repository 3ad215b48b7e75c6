"""A training that is killed goes on where it was, and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
from commands import call, command, environment

RUN = (
    "model=psan", "dataset=simulated", "tracking=none", "trainer=smoke", "trainer.max_epochs=6",
    "trainer.batches_per_epoch=6", "trainer.batch_size=4", "model.network.n_layers=1",
    "model.network.d_model=16", "trainer.eval_batch_size=64",
)  # fmt: skip
TIMINGS = (
    "train_seconds",
    "seconds_per_step",
    "windows_per_second",
    "peak_memory_mb",
    "finished",
    "seconds",
    "git_commit",
)


def only_row(folder: Path) -> dict:
    (path,) = folder.glob("results/default/cells/*/row.json")
    row = json.loads(path.read_text())
    return {name: value for name, value in row.items() if name not in TIMINGS}


def history(folder: Path) -> pd.DataFrame:
    (path,) = folder.glob("results/default/cells/*/history.csv")
    return pd.read_csv(path).drop(columns="seconds")


def test_kill_in_mid_training_and_resume(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    assert call(undisturbed, "run", *RUN).returncode == 0

    process = subprocess.Popen(
        command("run", *RUN), cwd=killed, env=environment(), stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        lines = [
            len(p.read_text().splitlines()) for p in killed.glob("results/*/cells/*/history.csv")
        ]
        if lines and lines[0] >= 3:  # the header and two epochs
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(killed.glob("results/default/cells/*/row.json"))
    epochs_before = len(history(killed))
    assert 2 <= epochs_before < 6

    done = call(killed, "run", *RUN)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(history(killed), history(undisturbed))
    assert only_row(killed) == only_row(undisturbed)
